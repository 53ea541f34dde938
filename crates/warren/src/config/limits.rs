//! `[limits]`: how much there may be and how often it may be asked for. AWS's defaults; 0 is no limit.

use aws::Rates;
use control::Quotas;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    memory_mib: u32,
    images: u32,
    image_versions: u32,
    image_builds: u32,
    connectors: u32,
    run_per_s: u32,
    resume_per_s: u32,
    suspend_per_s: u32,
    terminate_per_s: u32,
    get_per_s: u32,
    auth_token_per_s: u32,
    shell_auth_token_per_s: u32,
    connectors_per_s: u32,
    tags_per_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let (Quotas { memory_mib, images, image_versions, concurrent_builds, connectors }, rates) =
            (Quotas::default(), Rates::default());
        let written = |quota: Option<u64>| quota.map_or(0, |q| u32::try_from(q).unwrap_or(0));
        let rate = |rate: Option<u32>| rate.unwrap_or(0);
        Self {
            memory_mib: written(memory_mib),
            images: written(images),
            image_versions: written(image_versions),
            image_builds: written(concurrent_builds),
            connectors: written(connectors),
            run_per_s: rate(rates.run),
            resume_per_s: rate(rates.resume),
            suspend_per_s: rate(rates.suspend),
            terminate_per_s: rate(rates.terminate),
            get_per_s: rate(rates.get),
            auth_token_per_s: rate(rates.auth_token),
            shell_auth_token_per_s: rate(rates.shell_auth_token),
            connectors_per_s: rate(rates.connectors),
            tags_per_s: rate(rates.tags),
        }
    }
}

impl Limits {
    pub(crate) fn quotas(&self) -> Quotas {
        let quota = |written: u32| (written > 0).then_some(u64::from(written));
        Quotas {
            memory_mib: quota(self.memory_mib),
            images: quota(self.images),
            image_versions: quota(self.image_versions),
            concurrent_builds: quota(self.image_builds),
            connectors: quota(self.connectors),
        }
    }

    pub(crate) fn rates(&self) -> Rates {
        let rate = |written: u32| (written > 0).then_some(written);
        Rates {
            run: rate(self.run_per_s),
            resume: rate(self.resume_per_s),
            suspend: rate(self.suspend_per_s),
            terminate: rate(self.terminate_per_s),
            get: rate(self.get_per_s),
            auth_token: rate(self.auth_token_per_s),
            shell_auth_token: rate(self.shell_auth_token_per_s),
            connectors: rate(self.connectors_per_s),
            tags: rate(self.tags_per_s),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_awss_and_zero_is_no_limit() {
        let limits = Limits::default();
        assert_eq!((limits.quotas(), limits.rates()), (Quotas::default(), Rates::default()));
        let limits = Limits { run_per_s: 0, memory_mib: 0, ..limits };
        assert_eq!((limits.rates().run, limits.quotas().memory_mib), (None, None));
    }
}
