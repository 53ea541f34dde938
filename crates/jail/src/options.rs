//! The command line: written by the engine, never by a person.

/// What the jail is to be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// User and group id of the VMM; never 0.
    pub(crate) uid: u32,
    /// Descriptors the VMM inherits, ascending, besides 0 to 2.
    pub(crate) keep: Vec<u32>,
    /// `cgroup.procs` files to join.
    pub(crate) cgroups: Vec<String>,
    /// An empty directory that becomes the mount point of the new root.
    pub(crate) root: String,
    /// Directories that the VMM sees read-only, at the same path.
    pub(crate) directories: Vec<String>,
    /// Files that the VMM sees: (path on the host, path in the jail).
    pub(crate) files: Vec<(String, String, Access)>,
    /// Device nodes that the VMM gets as its own.
    pub(crate) devices: Vec<String>,
    /// `NAME=value`; the VMM gets nothing else.
    pub(crate) environment: Vec<String>,
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Options {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            if name == "--" {
                options.command = arguments.collect();
                return options.checked();
            }
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            match name.as_str() {
                "--uid" => options.uid = number(&name, &value)?,
                "--keep" => options.keep.push(number(&name, &value)?),
                "--cgroup" => options.cgroups.push(value),
                "--root" => options.root = value,
                "--directory" => options.directories.push(value),
                "--device" => options.devices.push(value),
                "--file" => options.files.push(pair(&value, Access::Read)?),
                "--writable-file" => options.files.push(pair(&value, Access::Write)?),
                "--env" => options.environment.push(value),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        Err("no -- PROGRAM".into())
    }

    fn checked(mut self) -> Result<Self, String> {
        self.keep.sort_unstable();
        if self.uid == 0 {
            return Err("--uid must be given and not be 0".into());
        }
        if self.root.is_empty() {
            return Err("--root must be given".into());
        }
        if self.keep.iter().any(|&fd| fd < 3) {
            return Err("--keep takes descriptors from 3 on".into());
        }
        Ok(self)
    }
}

fn number(name: &str, value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("{name} {value}: not a number"))
}

fn pair(value: &str, access: Access) -> Result<(String, String, Access), String> {
    let (host, inside) = value.split_once('=').ok_or(format!("{value}: not HOST=INSIDE"))?;
    Ok((host.into(), inside.into(), access))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split(' ').map(String::from))
    }

    #[test]
    fn root_is_refused_as_a_user() {
        assert!(parse("--root /r --uid 0 -- /bin/true").is_err());
        assert!(parse("--root /r -- /bin/true").is_err());
    }

    #[test]
    fn everything_after_the_dashes_is_the_command() {
        let options = parse("--uid 7 --root /r --keep 9 --keep 4 -- /q --uid 0").unwrap();
        assert_eq!(options.command, ["/q", "--uid", "0"]);
        assert_eq!((options.uid, options.keep), (7, vec![4, 9]));
    }

    #[test]
    fn unknown_options_and_standard_descriptors_are_refused() {
        assert!(parse("--uid 7 --root /r --bind x -- /q").is_err());
        assert!(parse("--uid 7 --root /r --keep 2 -- /q").is_err());
    }
}
