//! Who somebody is to a coordinator: a name and roles, as certificates and tokens carry them. What a role may do
//! is decided by the coordinator.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// Bytes of the longest name of an identity.
pub const MAX_NAME_BYTES: usize = 64;

/// The trust domain of certificates that `unisono certs` writes (`spiffe://unisono/ROLE/NAME`).
pub const TRUST_DOMAIN: &str = "unisono";

/// What an identity may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Computes: joins, takes leases, receives audio and weights, hands in gradients.
    Worker,
    /// Submits, cancels and resumes jobs, and reads as [`Role::Read`] does.
    Submit,
    /// Lists jobs and workers and reads logs, metrics and reports.
    Read,
    /// Everything.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Worker, Self::Submit, Self::Read, Self::Admin];

    /// As certificates, tokens and the command line call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no role.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no role; the roles are worker, submit, read and admin")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let named = Self::ALL.into_iter().find(|role| role.name() == text);
        named.ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Every role.
    pub const ALL: Self =
        Self(Role::Worker.bit() | Role::Submit.bit() | Role::Read.bit() | Role::Admin.bit());

    /// Whether the role was given, or comes with one that was: an admin has all roles, and who submits may read.
    pub const fn include(self, role: Role) -> bool {
        let granting = match role {
            Role::Worker => Role::Worker.bit() | Role::Admin.bit(),
            Role::Submit => Role::Submit.bit() | Role::Admin.bit(),
            Role::Read => Role::Read.bit() | Role::Submit.bit() | Role::Admin.bit(),
            Role::Admin => Role::Admin.bit(),
        };
        self.0 & granting != 0
    }

    /// The roles that were given themselves.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL
            .into_iter()
            .filter(move |role| self.0 & role.bit() != 0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |set, role| set | role.bit()))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, role) in self.iter().enumerate() {
            write!(f, "{}{role}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Somebody with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// For people and the audit log, in the characters that [`is_name`] allows.
    pub name: String,
    /// What it may do.
    pub roles: Roles,
}

/// Whether `text` may be the name of an identity: letters, digits, `.`, `_` and `-` of ASCII, at most
/// [`MAX_NAME_BYTES`], the first a letter or a digit. Such a name is safe in a path, a URI and a terminal.
pub fn is_name(text: &str) -> bool {
    let within = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.len() <= MAX_NAME_BYTES
        && text.bytes().all(within)
        && text
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric())
}

/// The role and the name in a SPIFFE id `spiffe://DOMAIN/ROLE/NAME`; `None` if `uri` is of another form or
/// another trust domain.
pub fn of_spiffe_id(uri: &str, domain: &str) -> Option<(Role, String)> {
    let path = uri.strip_prefix("spiffe://")?.strip_prefix(domain)?;
    let (role, name) = path.strip_prefix('/')?.split_once('/')?;
    is_name(name).then_some((role.parse().ok()?, name.to_owned()))
}

/// The SPIFFE id of a role and a name within [`TRUST_DOMAIN`].
pub fn spiffe_id(role: Role, name: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/{role}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_comes_with_those_below_it_and_no_others() {
        for (given, included) in [
            (Role::Worker, &[Role::Worker][..]),
            (Role::Submit, &[Role::Submit, Role::Read]),
            (Role::Read, &[Role::Read]),
            (Role::Admin, &Role::ALL),
        ] {
            let roles = Roles::from_iter([given]);
            for role in Role::ALL {
                assert_eq!(
                    roles.include(role),
                    included.contains(&role),
                    "{given} {role}"
                );
            }
        }
        assert!(
            Role::ALL
                .into_iter()
                .all(|role| !Roles::default().include(role))
        );
    }

    #[test]
    fn a_spiffe_id_tells_role_and_name_and_anything_else_tells_nothing() {
        let id = spiffe_id(Role::Worker, "gpu-1");
        assert_eq!(
            of_spiffe_id(&id, TRUST_DOMAIN),
            Some((Role::Worker, "gpu-1".to_owned()))
        );
        for foreign in [
            "spiffe://unisono.evil/admin/x",
            "spiffe://unisonoadmin/x",
            "spiffe://unisono/admin",
            "spiffe://unisono/admin/",
            "spiffe://unisono/root/x",
            "spiffe://unisono/admin/a/b",
            "spiffe://unisono/admin/\u{1b}[2J",
            "https://unisono/admin/x",
            "",
        ] {
            assert_eq!(of_spiffe_id(foreign, TRUST_DOMAIN), None, "{foreign}");
        }
    }

    #[test]
    fn a_name_is_safe_in_a_path_and_on_a_terminal() {
        for name in ["ada", "gpu-1.rack_2", "0"] {
            assert!(is_name(name), "{name}");
        }
        let long = "a".repeat(MAX_NAME_BYTES + 1);
        for name in ["", ".", "..", "-x", "a/b", "a b", "a\n", "ä", &long] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
