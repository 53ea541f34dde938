//! Logs: what an app writes, and what clients write and read.

mod house;

use control::{
    Clock as _, ControlError, Direction, FilterEvents, GetEvents, ImageVersion, LogGroup,
    LogRecord, LogStream, LogTarget, Logging, PageRequest, RunMicrovm, StreamChoice, StreamOrder,
    StreamQuery, TimeSpan, Timestamp,
};
use house::House;

fn target(stream: &str) -> LogTarget {
    LogTarget {
        group: LogGroup::parse("/mine").unwrap(),
        stream: LogStream::parse(stream).unwrap(),
    }
}

fn records(times: impl IntoIterator<Item = i64>) -> Vec<LogRecord> {
    let record = |ms: i64| LogRecord { at: Timestamp::from_ms(ms), message: format!("at {ms}") };
    times.into_iter().map(record).collect()
}

fn page(items_max: usize, token: Option<String>) -> PageRequest {
    PageRequest { items_max, token }
}

/// A group with streams `a` (times 1 to 10) and `b` (5 and 6).
async fn filled() -> House {
    let house = House::empty().await;
    let logs = house.control.logs();
    logs.create_group(&target("a").group).await.unwrap();
    for stream in ["a", "b"] {
        logs.create_stream(&target(stream)).await.unwrap();
    }
    logs.put(&target("a"), records(1..=10)).await.unwrap();
    logs.put(&target("b"), records([5, 6])).await.unwrap();
    house
}

fn get(start: Direction, token: Option<String>, span: TimeSpan) -> GetEvents {
    GetEvents { target: target("a"), span, start, token, events_max: 4 }
}

async fn times(house: &House, query: GetEvents) -> (Vec<i64>, String, String) {
    let window = house.control.logs().get(query).await.unwrap();
    let times = window.events.iter().map(|event| event.at.ms()).collect();
    (times, window.forward_token, window.backward_token)
}

#[tokio::test]
async fn a_stream_is_read_from_either_end_until_the_token_stays() {
    let house = filled().await;
    let span = TimeSpan::default();
    let (seen, forward, _) = times(&house, get(Direction::Forward, None, span)).await;
    assert_eq!(seen, [1, 2, 3, 4]);
    let (seen, forward, back) = times(&house, get(Direction::Forward, Some(forward), span)).await;
    assert_eq!(seen, [5, 6, 7, 8]);
    assert_eq!(times(&house, get(Direction::Forward, Some(back), span)).await.0, [1, 2, 3, 4]);
    let (seen, forward, _) = times(&house, get(Direction::Forward, Some(forward), span)).await;
    assert_eq!(seen, [9, 10]);
    let (seen, again, _) =
        times(&house, get(Direction::Forward, Some(forward.clone()), span)).await;
    assert_eq!((seen, again), (vec![], forward.clone()));
    house.control.logs().put(&target("a"), records([11])).await.unwrap();
    assert_eq!(times(&house, get(Direction::Forward, Some(forward), span)).await.0, [11]);
    let (seen, _, back) = times(&house, get(Direction::Backward, None, span)).await;
    assert_eq!(seen, [8, 9, 10, 11]);
    assert_eq!(times(&house, get(Direction::Backward, Some(back), span)).await.0, [4, 5, 6, 7]);
    let span = TimeSpan { from: Some(Timestamp::from_ms(3)), until: Some(Timestamp::from_ms(5)) };
    assert_eq!(times(&house, get(Direction::Forward, None, span)).await.0, [3, 4]);
    let nonsense = get(Direction::Forward, Some("f/x/1".to_owned()), span);
    let refused = house.control.logs().get(nonsense).await;
    assert!(matches!(refused, Err(ControlError::BadPageToken)));
}

#[tokio::test]
async fn streams_are_merged_by_time_across_pages() {
    let house = filled().await;
    let mut seen = Vec::new();
    let mut token = None;
    loop {
        let query = FilterEvents {
            group: target("a").group,
            streams: StreamChoice::All,
            span: TimeSpan {
                from: Some(Timestamp::from_ms(4)),
                until: Some(Timestamp::from_ms(8)),
            },
            page: page(3, token),
        };
        let answer = house.control.logs().filter(query).await.unwrap();
        let events = answer.items.into_iter();
        seen.extend(events.map(|event| format!("{}{}", event.stream, event.at.ms())));
        token = answer.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["a4", "a5", "b5", "a6", "b6", "a7"]);
}

#[tokio::test]
async fn streams_and_groups_are_listed_with_what_is_in_them() {
    let house = filled().await;
    let logs = house.control.logs();
    let query =
        StreamQuery { prefix: None, order: StreamOrder::LastEvent, direction: Direction::Backward };
    let group = target("a").group;
    let first = logs.streams(&group, query.clone(), page(1, None)).await.unwrap();
    assert_eq!(first.items[0].stream.as_str(), "a");
    assert_eq!(first.items[0].last_event_at, Some(Timestamp::from_ms(10)));
    let second = logs.streams(&group, query, page(1, first.next_token)).await.unwrap();
    assert_eq!((second.items[0].stream.as_str(), second.next_token), ("b", None));
    let groups = logs.groups(Some("/m"), page(10, None)).await.unwrap().items;
    assert_eq!((groups.len(), groups[0].stored_bytes), (1, 9 * 4 + 5 + 2 * 4));
    assert!(logs.groups(Some("_m"), page(10, None)).await.unwrap().items.is_empty());
    logs.delete_group(&group).await.unwrap();
    let gone = logs.put(&target("a"), records([1])).await;
    assert!(matches!(gone, Err(ControlError::LogGroupNotFound(_))));
}

#[tokio::test]
async fn what_is_not_there_or_there_already_is_said() {
    let house = filled().await;
    let logs = house.control.logs();
    let exists = logs.create_group(&target("a").group).await;
    assert!(matches!(exists, Err(ControlError::LogGroupExists(_))));
    let exists = logs.create_stream(&target("a")).await;
    assert!(matches!(exists, Err(ControlError::LogStreamExists { .. })));
    let absent = logs.put(&target("c"), records([1])).await;
    assert!(matches!(absent, Err(ControlError::LogStreamNotFound { .. })));
}

#[tokio::test]
async fn output_of_an_app_is_in_its_stream_line_by_line_and_is_heard() {
    let house = House::open().await;
    let mut batches = house.control.logs().subscribe();
    let id = house.running().await;
    house.engine.print(&id, "one\ntw");
    house.engine.print(&id, "o\nunfinished");
    assert_eq!(house.log_lines(&id, 2).await, ["one", "two"]);
    assert_eq!(batches.recv().await.unwrap().group.as_str(), "/aws/lambda-microvms/worker");
    house.control.terminate_microvm(&id).await.unwrap();
    assert_eq!(house.log_lines(&id, 3).await, ["one", "two", "unfinished"]);
    let log = house.control.get_microvm(&id).await.unwrap().log.unwrap();
    assert_eq!(log.stream.as_str(), format!("2026/01/01[{}]{id}", ImageVersion::FIRST));
}

#[tokio::test]
async fn output_goes_to_another_group_or_nowhere_where_that_was_asked_for() {
    let house = House::open().await;
    let group = LogGroup::parse("/other").ok();
    let logging = Logging::CloudWatch { group, stream: None };
    let there = house.control.run_microvm(RunMicrovm { logging, ..house.request() });
    let there = there.await.unwrap();
    let logging = Logging::Disabled;
    let nowhere = house.control.run_microvm(RunMicrovm { logging, ..house.request() });
    let nowhere = nowhere.await.unwrap();
    assert_eq!(nowhere.log, None);
    for vm in [&there, &nowhere] {
        house.reaches(&vm.id, control::MicrovmState::Running).await;
        house.engine.print(&vm.id, "said\n");
    }
    assert_eq!(house.log_lines(&there.id, 1).await, ["said"]);
    let groups = house.control.logs().groups(None, page(10, None)).await.unwrap().items;
    let names: Vec<&str> = groups.iter().map(|info| info.group.as_str()).collect();
    // The first one holds the build's output.
    assert_eq!(names, ["/aws/lambda-microvms/worker", "/other"]);
}

#[tokio::test]
async fn events_go_when_their_retention_is_over() {
    let house = House::empty().await;
    let logs = house.control.logs();
    let now = house.clock.now();
    logs.create_group(&target("a").group).await.unwrap();
    logs.create_stream(&target("a")).await.unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let record = |at: Timestamp| LogRecord { at, message: "kept?".to_owned() };
    logs.put(&target("a"), vec![record(now.minus(hour * 25)), record(now)]).await.unwrap();
    logs.set_retention(&target("a").group, Some(1)).await.unwrap();
    house.clock.advance(hour);
    let left = async || {
        let query = GetEvents {
            target: target("a"),
            span: TimeSpan::default(),
            start: Direction::Forward,
            token: None,
            events_max: 10,
        };
        house.control.logs().get(query).await.unwrap().events
    };
    house.eventually(async || left().await.len() == 1).await;
    assert_eq!(left().await[0].at, now);
    let info = &logs.groups(None, page(1, None)).await.unwrap().items[0];
    assert_eq!((info.retention_days, info.stored_bytes), (Some(1), 5));
}

#[tokio::test]
async fn the_oldest_events_go_where_there_are_too_many() {
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let mut config = control::ControlConfig::new(dir.path());
    config.logs_bytes_max = 10;
    let engine = std::sync::Arc::new(control::testing::FakeEngine::new());
    let clock = std::sync::Arc::new(control::testing::ManualClock::new());
    let house = House::configured(dir, engine, clock, config).await;
    let logs = house.control.logs();
    logs.create_group(&target("a").group).await.unwrap();
    logs.create_stream(&target("a")).await.unwrap();
    logs.put(&target("a"), records(1..=9)).await.unwrap();
    house.clock.advance(std::time::Duration::from_secs(3600));
    let stored = async || {
        house.control.logs().groups(None, page(1, None)).await.unwrap().items[0].stored_bytes
    };
    house.eventually(async || stored().await == 8).await;
}
