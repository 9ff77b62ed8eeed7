//! Clients of the AWS services with one configuration: region, credentials, timeouts and HTTP client.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sqs::config::{IdentityCache, StalledStreamProtectionConfig};
use aws_smithy_runtime_api::client::http::HttpClient as SdkHttpClient;
use aws_smithy_types::retry::{ReconnectMode, RetryConfig};
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use relay::config::env::{EnvReader, SettingError};
use relay::config::secret_document::DocumentParser;
use relay::destination::http_client::HttpClient;
use relay::ports::secrets::LoopsToClaySecret;

use crate::sdk::error::AwsCall;
use crate::sdk::http::SdkHttpConnector;

const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2500);
/// Timeout of a call with its retries. It fits twice into the time of a function.
const CALL_TIMEOUT: Duration = Duration::from_secs(6);
const MAX_ATTEMPTS: u32 = 3;

/// Transport settings of the SDK's clients, in a function and in the CLI.
#[derive(Debug)]
pub struct Transport {
    /// The relay's own HTTP client.
    pub http_client: SdkHttpConnector,
    /// Timeouts of an attempt and of a call.
    pub timeouts: TimeoutConfig,
    /// Retries of a call.
    pub retries: RetryConfig,
    /// Disabled: responses are small, and the timeout limits an attempt.
    pub stalled_streams: StalledStreamProtectionConfig,
}

impl Transport {
    /// Creates the settings.
    pub fn new(client: HttpClient, attempt_timeout: Duration, call_timeout: Duration) -> Self {
        Self {
            http_client: SdkHttpConnector::new(client),
            timeouts: TimeoutConfig::builder().read_timeout(attempt_timeout).operation_timeout(call_timeout).build(),
            // The SDK does not see the connections of the relay's client, and would warn of that at every retry.
            retries: RetryConfig::standard()
                .with_max_attempts(MAX_ATTEMPTS)
                .with_reconnect_mode(ReconnectMode::ReuseAllConnections),
            stalled_streams: StalledStreamProtectionConfig::disabled(),
        }
    }
}

/// Factory of the services' clients.
#[derive(Debug, Clone)]
pub struct AwsClients {
    config: SdkConfig,
}

impl AwsClients {
    /// Creates the clients of a configured account.
    pub const fn new(config: SdkConfig) -> Self {
        Self { config }
    }

    /// Returns the configuration, for clients of other services.
    pub const fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Reads region and credentials, which Lambda sets, and `AWS_ENDPOINT_URL`, which names an emulator.
    pub fn from_env(reader: &mut EnvReader<'_>, client: HttpClient) -> Self {
        let mut required = |name, example| required(reader, name, "set, as Lambda does", example);
        let region = required("AWS_REGION", "eu-west-1");
        let key = required("AWS_ACCESS_KEY_ID", "ASIA…");
        let secret = required("AWS_SECRET_ACCESS_KEY", "…");
        let mut optional = |name| reader.raw(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let credentials = Credentials::new(key, secret, optional("AWS_SESSION_TOKEN"), None, "Lambda");
        let Transport { http_client, timeouts, retries, stalled_streams } =
            Transport::new(client, ATTEMPT_TIMEOUT, CALL_TIMEOUT);
        let mut config = SdkConfig::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            // The credentials are static, so there is nothing to cache.
            .identity_cache(IdentityCache::no_cache())
            .http_client(http_client)
            .timeout_config(timeouts)
            .retry_config(retries)
            .stalled_stream_protection(stalled_streams);
        config.set_endpoint_url(optional("AWS_ENDPOINT_URL"));
        Self { config: config.build() }
    }

    /// Whether AWS is emulated, which only `AWS_ENDPOINT_URL` says.
    pub fn is_emulated(&self) -> bool {
        self.config.endpoint_url().is_some()
    }

    /// Returns the parser of the secret `loops-to-clay`. Where AWS is emulated, destinations may be on this machine as well.
    pub fn loops_to_clay_parser(&self) -> DocumentParser<LoopsToClaySecret> {
        if self.is_emulated() { LoopsToClaySecret::parse } else { LoopsToClaySecret::parse_for_lambda }
    }

    /// The same account, reached through another HTTP client.
    pub fn with_http_client(self, client: impl SdkHttpClient + 'static) -> Self {
        Self { config: self.config.into_builder().http_client(client).build() }
    }

    /// Returns a call to a resource, from which its errors are made.
    pub fn call(&self, operation: &'static str, resource: &str) -> AwsCall {
        AwsCall::new(operation, resource, self.config.region())
    }

    /// A client of Secrets Manager.
    pub fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        aws_sdk_secretsmanager::Client::new(&self.config)
    }

    /// A client of SQS.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.config)
    }

    /// Returns the URL of DynamoDB, to which a connection is opened before it is needed.
    pub(crate) fn dynamodb_origin(&self) -> String {
        if let Some(endpoint) = self.config.endpoint_url() {
            return endpoint.to_owned();
        }
        let region = self.config.region().map_or("", Region::as_ref);
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://dynamodb.{region}.{suffix}")
    }

    /// A client of DynamoDB.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.config)
    }
}

/// Reads a variable that must be set.
pub(crate) fn required(
    reader: &mut EnvReader<'_>,
    name: &'static str,
    expected_format: &'static str,
    example: &'static str,
) -> String {
    match reader.raw(name) {
        Some(value) if !value.is_empty() => value.to_owned(),
        _ => {
            reader.push_error(SettingError { name, expected_format, example });
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(extra_variables: &[(&str, &str)]) -> AwsClients {
        let variables = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        let variables =
            variables.iter().chain(extra_variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        AwsClients::from_env(
            &mut EnvReader::new(&variables.collect()),
            relay::destination::http_client::build().unwrap(),
        )
    }

    #[test]
    fn dynamodb_origin_matches_sdk_endpoint() {
        use aws_sdk_dynamodb::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
        for region in ["eu-west-1", "us-gov-west-1", "cn-north-1"] {
            let params = Params::builder().region(region).build().unwrap();
            let resolver = DefaultResolver::new();
            let endpoint = futures_util::FutureExt::now_or_never(resolver.resolve_endpoint(&params)).unwrap().unwrap();
            assert_eq!(clients(&[("AWS_REGION", region)]).dynamodb_origin(), endpoint.url());
        }
    }

    #[test]
    fn dynamodb_origin_follows_endpoint_override() {
        let variables = [("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:5000")];
        assert_eq!(clients(&variables).dynamodb_origin(), "http://127.0.0.1:5000");
    }
}
