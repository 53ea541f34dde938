//! Artifact directory or zip -> Dockerfile build -> disk -> template.
