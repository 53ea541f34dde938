//! Promise: a session gets one VM, from deliveries that are genuine and from no others.

use crate::Shared;
use agents::webhook::Keys;
use e2e::{Site, eventually};
use libtest_mimic::Trial;
use serde_json::json;
use std::{collections::BTreeSet, thread, time::Duration};
use time::OffsetDateTime;

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![
        shared.test("a_forged_delivery_is_refused_with_401", forged),
        shared.test("a_stale_delivery_is_refused_with_401", stale),
        shared.test("other_events_are_accepted_and_launch_nothing", other_events),
        shared.test("fifty_deliveries_at_once_launch_one_vm", fifty),
        shared.test("both_secrets_are_valid_while_they_are_rotated", rotation),
    ]
}

/// One delivery, as the platform posts it.
struct Delivery {
    id: String,
    body: String,
    at: OffsetDateTime,
    secret: String,
}

impl Delivery {
    fn new(site: &Site, kind: &str, session: &str) -> Self {
        let now = OffsetDateTime::now_utc();
        let id = format!("whe_{}", now.unix_timestamp_nanos());
        let data = json!({ "type": kind, "id": session, "organization_id": "org_e2e", "workspace_id": "wrk_e2e" });
        let body = json!({ "type": "event", "id": id, "created_at": "2026-11-23T00:00:00Z", "data": data });
        Self { id, body: body.to_string(), at: now, secret: site.webhook_secret.clone() }
    }

    fn post(&self, site: &Site) -> (u16, String) {
        let keys = Keys::parse(&self.secret).expect("a secret");
        let url = format!("http://127.0.0.1:{}/webhooks/managed-agents", site.api_port);
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent
            .post(&url)
            .header("content-type", "application/json")
            .header("webhook-id", &self.id)
            .header("webhook-timestamp", self.at.unix_timestamp().to_string())
            .header("webhook-signature", keys.sign(&self.id, self.at, self.body.as_bytes()))
            .send(self.body.as_bytes())
            .expect("an answer");
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default())
    }
}

const RUN_STARTED: &str = "session.status_run_started";

fn forged(site: &Site) {
    let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".to_owned();
    let delivery = Delivery { secret, ..Delivery::new(site, RUN_STARTED, "sesn_forged") };
    assert_eq!(delivery.post(site).0, 401);
    let mut tampered = Delivery::new(site, RUN_STARTED, "sesn_forged");
    let keys = Keys::parse(&tampered.secret).expect("a secret");
    let _signed = keys.sign(&tampered.id, tampered.at, tampered.body.as_bytes());
    tampered.secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into();
    assert_eq!(tampered.post(site).0, 401);
    assert!(site.vms().is_empty());
}

fn stale(site: &Site) {
    let mut delivery = Delivery::new(site, RUN_STARTED, "sesn_stale");
    for seconds in [-301, 301] {
        delivery.at = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
        assert_eq!(delivery.post(site).0, 401, "{seconds} s off");
    }
    assert!(site.vms().is_empty());
}

fn other_events(site: &Site) {
    for kind in ["session.created", "session.status_idled", "agent.updated", "something.new"] {
        assert_eq!(Delivery::new(site, kind, "sesn_other").post(site).0, 200, "{kind}");
    }
    thread::sleep(Duration::from_millis(300));
    assert!(site.vms().is_empty());
}

fn fifty(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    let delivery = Delivery::new(site, RUN_STARTED, &session);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let posts: Vec<_> = (0..50).map(|_| scope.spawn(|| delivery.post(site).0)).collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    assert_eq!(statuses, vec![200; 50]);
    let vms: BTreeSet<String> = site.vms().iter().map(|vm| vm["microvm_id"].to_string()).collect();
    assert_eq!(vms.len(), 1, "{vms:?}");
    // The one VM does serve the session.
    assert_eq!(platform.bash(&session, "echo served").text, "served");
    assert_eq!(site.vms().len(), 1);
    platform.archive(&session);
    site.quiet();
}

fn rotation(site: &Site) {
    let new = "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=";
    site.put_secret("warren/webhook-signing-secret", &format!("{new} {}", site.webhook_secret));
    let kind = "session.status_idled";
    let with_new = || Delivery { secret: new.into(), ..Delivery::new(site, kind, "sesn_rotated") };
    // The launcher reads the secret anew when a signature does not fit, though not at every one.
    eventually("the new secret", 30, || (with_new().post(site).0 == 200).then_some(()));
    assert_eq!(
        Delivery::new(site, kind, "sesn_rotated").post(site).0,
        200,
        "the old one still counts"
    );
    site.put_secret("warren/webhook-signing-secret", &site.webhook_secret);
}
