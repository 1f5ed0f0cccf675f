//! What is typed after `certs` and `token`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use proto::identity::Role;

use super::OutputArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make a cluster's authority, and with --host a coordinator's certificate.
    Init(CertsInit),
    /// Make a coordinator's certificate (`node.crt`).
    Node(CertsNode),
    /// Make the certificate of a worker or of somebody who submits or reads (`client.NAME.crt`).
    Client(CertsClient),
    /// Show the certificates of a folder: whose, for which roles and hosts, and until when.
    List(CertsList),
    /// Replace certificates by new ones of the same names, roles and hosts, with new keys.
    Renew(CertsRenew),
    /// Write a client's certificate into the coordinator's list of revoked ones.
    Revoke(CertsRevoke),
}

/// Where certificates lie.
#[derive(Debug, ClapArgs)]
pub(crate) struct CertsFolder {
    /// Folder of the certificates.
    #[arg(
        long,
        alias = "dir",
        value_name = "DIR",
        env = "UNISONO_CERTS_DIR",
        default_value = "certs"
    )]
    pub certs_dir: PathBuf,
}

/// Where certificates and the authority's key lie.
#[derive(Debug, ClapArgs)]
pub(crate) struct CertsFiles {
    #[command(flatten)]
    pub folder: CertsFolder,
    /// Folder of the authority's key (`ca.key`). Whoever has it can be anybody: keep it off the cluster's hosts.
    #[arg(long, value_name = "DIR", default_value = "certs-authority")]
    pub authority_dir: PathBuf,
    /// How long new certificates are valid.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CertsInit {
    /// DNS name or IP address by which clients reach the coordinator. May be given often.
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<String>,
    #[command(flatten)]
    pub files: CertsFiles,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CertsNode {
    /// DNS name or IP address by which clients reach the coordinator. May be given often.
    #[arg(long = "host", value_name = "HOST", required = true)]
    pub hosts: Vec<String>,
    #[command(flatten)]
    pub files: CertsFiles,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CertsClient {
    /// Whose it is: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// What it may do: `worker`, `submit` (which includes reading), `read` or `admin` (everything). May be given
    /// often.
    #[arg(long = "role", value_name = "ROLE", required = true)]
    pub roles: Vec<Role>,
    /// Write it into this folder, with the authority's certificate beside it, to be carried to its host. Default:
    /// the folder of the certificates.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub files: CertsFiles,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CertsList {
    #[command(flatten)]
    pub folder: CertsFolder,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CertsRenew {
    /// Files to renew, such as `node.crt`. Default: all but the authority's.
    #[arg(value_name = "FILE")]
    pub files_named: Vec<String>,
    /// Only those that expire within so many days.
    #[arg(long, value_name = "DAYS")]
    pub within: Option<u32>,
    #[command(flatten)]
    pub files: CertsFiles,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CertsRevoke {
    /// The certificate (`client.NAME.crt`).
    #[arg(value_name = "FILE")]
    pub certificate: PathBuf,
    #[command(flatten)]
    pub folder: CertsFolder,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token. Its text is shown this once.
    Create(TokenCreate),
    /// Show whose tokens there are, for which role and until when.
    List(TokenList),
    /// Take a token out of force.
    Revoke(TokenRevoke),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TokenCreate {
    /// Whose it is: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// What it may do: `worker`, `submit` (which includes reading), `read` or `admin` (everything).
    #[arg(long, value_name = "ROLE")]
    pub role: Role,
    /// How long it is valid.
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Write its text to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub list: TokenList,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TokenList {
    /// The coordinator's file of tokens.
    #[arg(long, value_name = "FILE", default_value = "tokens")]
    pub tokens: PathBuf,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TokenRevoke {
    /// Whose it is.
    pub name: String,
    #[command(flatten)]
    pub list: TokenList,
}
