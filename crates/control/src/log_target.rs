//! Where output goes (spec 8).

use crate::{ImageName, ImageVersion, LogGroup, LogStream, LogTarget, Logging, Timestamp};

/// Group `/aws/lambda-microvms/<image>`, stream `YYYY/MM/DD[<version>]<name>` with the UTC day of
/// `at`, each unless `logging` names another. None: nowhere.
pub(crate) fn log_target(
    logging: &Logging,
    image: &ImageName,
    version: ImageVersion,
    name: &str,
    at: Timestamp,
) -> Option<LogTarget> {
    let (group, stream) = match logging {
        Logging::Disabled => return None,
        Logging::Default => (None, None),
        Logging::CloudWatch { group, stream } => (group.clone(), stream.clone()),
    };
    let default_group = || {
        let group = LogGroup::parse(&format!("/aws/lambda-microvms/{image}"));
        group.expect("an image's name consists of what a group's name may")
    };
    let default_stream = || {
        let (year, month, day) = at.utc().to_calendar_date();
        let month = u8::from(month);
        let stream = LogStream::parse(&format!("{year:04}/{month:02}/{day:02}[{version}]{name}"));
        stream.expect("ids, versions and dates have no ':' and no '*'")
    };
    Some(LogTarget {
        group: group.unwrap_or_else(default_group),
        stream: stream.unwrap_or_else(default_stream),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_goes_where_aws_puts_it_unless_told_otherwise() {
        let image = ImageName::parse("claude-worker").unwrap();
        let at = Timestamp::from_ms(1_767_225_599_999);
        let target = |logging: &Logging| {
            log_target(logging, &image, ImageVersion::FIRST, "microvm-x", at)
                .map(|t| (t.group.to_string(), t.stream.to_string()))
        };
        let (group, stream) = target(&Logging::Default).unwrap();
        assert_eq!(group, "/aws/lambda-microvms/claude-worker");
        assert_eq!(stream, "2025/12/31[1.0]microvm-x");
        let own = Logging::CloudWatch { group: LogGroup::parse("/mine").ok(), stream: None };
        assert_eq!(target(&own).unwrap(), ("/mine".to_owned(), stream));
        assert_eq!(target(&Logging::Disabled), None);
    }
}
