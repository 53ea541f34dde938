//! The AWS surface: authentication, authorisation, one module per service.
