//! An AWS account, opened as the AWS CLI opens it, through the relay's own HTTP client.

use std::time::Duration;

use aws_config::profile::{self, ProfileFileCredentialsProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_types::os_shim_internal::{Env, Fs};
use relay::destination::http_client::HttpClient;
use relay_aws::sdk::clients::{AwsClients, Transport};
use relay_aws::sdk::error::{AwsCall, CredentialsIssue};

use crate::aws::error::Error;

const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);
/// Timeout of a call with its retries.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// An account with its credentials and region.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    clients: AwsClients,
    region: String,
    http: HttpClient,
}

impl Session {
    /// Opens the account of this profile in this region, or the one that the environment names. As with the AWS CLI, a named
    /// profile wins over keys in the environment.
    pub(crate) async fn open(http: HttpClient, profile: Option<&str>, region: Option<&str>) -> Result<Self, Error> {
        let Transport { http_client, timeouts, retries, stalled_streams } =
            Transport::new(http.clone(), ATTEMPT_TIMEOUT, CALL_TIMEOUT);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client.clone())
            .timeout_config(timeouts)
            .retry_config(retries)
            .stalled_stream_protection(stalled_streams);
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
                ProviderConfig::without_region().with_http_client(http_client).with_region(Some(region.clone()));
            let provider = ProfileFileCredentialsProvider::builder().configure(&provider_config);
            let provider = SharedCredentialsProvider::new(provider.profile_name(profile).build());
            config = config.into_builder().credentials_provider(provider).build();
        }
        let credentials = config.credentials_provider().ok_or(Error::Credentials(CredentialsIssue::Missing))?;
        credentials.provide_credentials().await.map_err(|error| match CredentialsIssue::from(&error) {
            CredentialsIssue::Missing if profile.is_some() => Error::Credentials(CredentialsIssue::UnusableProfile),
            issue => Error::Credentials(issue),
        })?;
        Ok(Self { clients: AwsClients::new(config), region: region.to_string(), http })
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// The HTTP client, for requests to others than AWS.
    pub(crate) const fn http(&self) -> &HttpClient {
        &self.http
    }

    /// Returns a call in this account, from which its errors are made.
    pub(crate) fn call(&self, action: &'static str, resource: impl Into<String>) -> AwsCall {
        AwsCall { operation: action, resource: resource.into(), region: self.region.clone() }
    }

    /// The clients of the services that the relay uses.
    pub(crate) const fn clients(&self) -> &AwsClients {
        &self.clients
    }

    pub(crate) fn cloudwatch(&self) -> aws_sdk_cloudwatch::Client {
        aws_sdk_cloudwatch::Client::new(self.clients.config())
    }

    pub(crate) fn logs(&self) -> aws_sdk_cloudwatchlogs::Client {
        aws_sdk_cloudwatchlogs::Client::new(self.clients.config())
    }

    pub(crate) fn lambda(&self) -> aws_sdk_lambda::Client {
        aws_sdk_lambda::Client::new(self.clients.config())
    }

    pub(crate) fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        self.clients.secrets_manager()
    }
}

async fn check_profile_exists(profile: &str) -> Result<(), Error> {
    let (fs, env) = (Fs::real(), Env::real());
    let profiles = profile::load(&fs, &env, &Default::default(), None).await;
    match profiles.map_err(|_| Error::Credentials(CredentialsIssue::UnusableProfile))?.get_profile(profile) {
        Some(_) => Ok(()),
        None => Err(Error::NoProfile { profile: profile.to_owned() }),
    }
}
