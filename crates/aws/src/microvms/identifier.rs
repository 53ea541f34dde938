//! Which image, version or MicroVM a caller means, and whether it may have to do with it.

use super::error::{bad_id, from_control, not_found, validation};
use crate::{error::ApiError, iam::Context, service::Call, tags};
use control::{ControlError, ImageArn, ImageName, ImageVersion, Microvm, MicrovmId, Tagged};

/// Condition key of Warren's: the name of the session that what runs in the MicroVM has. With
/// `aws:userid` a policy can so allow a MicroVM what concerns itself.
const EXECUTOR_SESSION: &str = "warren:ExecutorSession";

/// What is said of a text that is neither an ARN nor the name of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadArnText {
    /// RunMicrovm's.
    Run,
    /// That of every other call.
    Image,
}

/// The image's ARN, of an ARN or of the name of an image that exists.
///
/// # Errors
/// 400 for what is neither; 403 for an ARN of another account, Region or form, as on AWS.
pub(super) async fn image_arn(
    call: &Call,
    identifier: &str,
    otherwise: BadArnText,
) -> Result<ImageArn, ApiError> {
    let foreign = || {
        call.access_denied(format!(
            "User: {} is not authorized to perform: lambda:{} on resource: {identifier}",
            call.principal.arn(),
            call.operation.name
        ))
    };
    if identifier.starts_with("arn:") {
        let arn = ImageArn::parse(identifier).map_err(|_| {
            let parts = identifier.splitn(6, ':').count();
            if parts == 6 {
                foreign()
            } else {
                validation(format!("Invalid ARN format: {identifier}"))
            }
        })?;
        let known = arn.account == call.account() || arn.account == "aws";
        return if known && arn.region == call.region() { Ok(arn) } else { Err(foreign()) };
    }
    if let Ok(name) = ImageName::parse(identifier) {
        match call.state.control.images().get(&name).await {
            Ok(image) => return Ok(image.arn),
            Err(ControlError::ImageNotFound(_)) => {}
            Err(error) => return Err(from_control(error)),
        }
    }
    call.authorize_any()?;
    Err(validation(match otherwise {
        BadArnText::Run => "Malformed ARN - doesn't start with 'arn:'".to_owned(),
        BadArnText::Image => format!("Invalid ARN format: {identifier}"),
    }))
}

/// Whether the caller may perform this operation on the image, or on a MicroVM of it.
///
/// # Errors
/// AccessDenied.
pub(super) async fn authorize_on_image(
    call: &Call,
    arn: &ImageArn,
    more: Context,
) -> Result<(), ApiError> {
    let mut context = if call.principal.reads_resource_tags() {
        let what = Tagged::Image(arn.name.clone());
        let tags = call.state.control.tags().of(&what).await.map_err(from_control)?;
        tags::of_resource(&tags.unwrap_or_default())
    } else {
        Context::default()
    };
    context.extend(&more);
    call.authorize_with(&arn.to_string(), &context)
}

/// As [`image_arn`], for calls about an image that the caller must have rights on.
pub(super) async fn authorized_image(call: &Call, identifier: &str) -> Result<ImageArn, ApiError> {
    let arn = image_arn(call, identifier, BadArnText::Image).await?;
    authorize_on_image(call, &arn, Context::default()).await?;
    if arn.account == "aws" {
        return Err(not_found(format!("MicroVMImage not found for MicroVMImageID: {arn}")));
    }
    Ok(arn)
}

/// A version as it stands in a path: `1.0`, and `1` too.
pub(super) fn version(image: &ImageArn, text: &str) -> Result<ImageVersion, ApiError> {
    ImageVersion::parse(text).or_else(|_| ImageVersion::parse(&format!("{text}.0"))).map_err(|_| {
        not_found(format!("MicroVMImage not found for MicroVMImage: {image}, Version: {text}"))
    })
}

/// Of a query or body, where a wrong form is an invalid argument.
pub(super) fn version_argument(text: &str) -> Result<ImageVersion, ApiError> {
    ImageVersion::parse(text).map_err(|error| bad_id(&error))
}

/// The MicroVM, once the caller is known to have the operation's right on its image.
///
/// # Errors
/// 403; 404 `MicroVM not found: <id>`, also for what cannot be an id.
pub(super) async fn authorized_microvm(call: &Call, text: &str) -> Result<Microvm, ApiError> {
    let found = match MicrovmId::parse(text) {
        Ok(id) => call.state.control.get_microvm(&id).await,
        Err(_) => {
            call.authorize_any()?;
            return Err(not_found(format!("MicroVM not found: {text}")));
        }
    };
    match found {
        Ok(microvm) => {
            let session = microvm.id.executor_session();
            let own = Context::default().with(EXECUTOR_SESSION, session);
            authorize_on_image(call, &microvm.image, own).await?;
            Ok(microvm)
        }
        Err(error @ ControlError::MicrovmNotFound(_)) => {
            call.authorize_any()?;
            Err(from_control(error))
        }
        Err(error) => Err(from_control(error)),
    }
}
