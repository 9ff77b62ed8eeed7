//! An AWS account, opened as the AWS CLI opens it, over the relay's own HTTP client.

use std::time::Duration;

use aws_config::profile::{self, ProfileFileCredentialsProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_smithy_types::retry::{ReconnectMode, RetryConfig};
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::os_shim_internal::{Env, Fs};
use relay::destination::http_client::HttpClient;
use relay_aws::sdk::error::{AwsCall, CredentialsIssue};
use relay_aws::sdk::http::SdkHttpConnector;

use crate::aws::error::Error;

/// The longest that one attempt at a call may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);
/// The longest that a call may take, its repetitions included.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// An account that can be asked.
#[derive(Debug, Clone)]
pub struct Session {
    config: SdkConfig,
    region: String,
    http: HttpClient,
}

impl Session {
    /// Opens the account of this profile in this region, or of what the surroundings say. As for the AWS CLI, a profile that
    /// is named wins over keys in the environment.
    ///
    /// # Errors
    /// When there is no such profile, no region, or no credentials.
    pub async fn open(http: HttpClient, profile: Option<&str>, region: Option<&str>) -> Result<Self, Error> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(SdkHttpConnector::new(http.clone()))
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .operation_timeout(CALL_TIMEOUT)
                    .build(),
            )
            .stalled_stream_protection(aws_config::stalled_stream_protection::StalledStreamProtectionConfig::disabled())
            .retry_config(RetryConfig::standard().with_reconnect_mode(ReconnectMode::ReuseAllConnections));
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if let Some(profile) = profile {
            check_profile_exists(profile).await?;
            loader = loader.profile_name(profile);
        }
        let mut config = loader.load().await;
        let region = config.region().ok_or(Error::NoRegion)?.clone();
        if let Some(profile) = profile {
            // The loader's own chain would ask the environment first.
            let provider_config =
                ProviderConfig::without_region().with_http_client(SdkHttpConnector::new(http.clone()));
            let provider =
                ProfileFileCredentialsProvider::builder().configure(&provider_config.with_region(Some(region.clone())));
            let provider = SharedCredentialsProvider::new(provider.profile_name(profile).build());
            config = config.into_builder().credentials_provider(provider).build();
        }
        let credentials = config.credentials_provider().ok_or(Error::Credentials(CredentialsIssue::Missing))?;
        match (credentials.provide_credentials().await, profile) {
            (Ok(_), _) => Ok(Self { config, region: region.to_string(), http }),
            (Err(error), profile) => Err(Error::Credentials(match CredentialsIssue::from(&error) {
                CredentialsIssue::Missing if profile.is_some() => CredentialsIssue::UnusableProfile,
                issue => issue,
            })),
        }
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The client, for what is not AWS.
    #[must_use]
    pub const fn http(&self) -> &HttpClient {
        &self.http
    }

    /// A call in this account, to tell what its failure means.
    pub fn call(&self, action: &'static str, resource: impl Into<String>) -> AwsCall {
        AwsCall { operation: action, resource: resource.into(), region: self.region.clone() }
    }

    /// A client of CloudFormation.
    #[must_use]
    pub fn cloudformation(&self) -> aws_sdk_cloudformation::Client {
        aws_sdk_cloudformation::Client::new(&self.config)
    }

    /// A client of CloudWatch.
    #[must_use]
    pub fn cloudwatch(&self) -> aws_sdk_cloudwatch::Client {
        aws_sdk_cloudwatch::Client::new(&self.config)
    }

    /// A client of CloudWatch Logs.
    #[must_use]
    pub fn logs(&self) -> aws_sdk_cloudwatchlogs::Client {
        aws_sdk_cloudwatchlogs::Client::new(&self.config)
    }

    /// A client of DynamoDB.
    #[must_use]
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.config)
    }

    /// A client of Lambda.
    #[must_use]
    pub fn lambda(&self) -> aws_sdk_lambda::Client {
        aws_sdk_lambda::Client::new(&self.config)
    }

    /// A client of Secrets Manager.
    #[must_use]
    pub fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        aws_sdk_secretsmanager::Client::new(&self.config)
    }

    /// A client of SQS.
    #[must_use]
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.config)
    }

    /// A client of the Security Token Service.
    #[must_use]
    pub fn sts(&self) -> aws_sdk_sts::Client {
        aws_sdk_sts::Client::new(&self.config)
    }
}

/// Looks whether a profile is in the files.
async fn check_profile_exists(profile: &str) -> Result<(), Error> {
    let (fs, env) = (Fs::real(), Env::real());
    let profiles = profile::load(&fs, &env, &Default::default(), None).await;
    match profiles.map_err(|_| Error::Credentials(CredentialsIssue::UnusableProfile))?.get_profile(profile) {
        Some(_) => Ok(()),
        None => Err(Error::NoProfile { profile: profile.to_owned() }),
    }
}
