//! How a URL names Redis: one server, or some of the masters of a cluster.

use std::fmt;

use redis::io::tcp::TcpSettings;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use super::options::{ConnectError, RedisOptions};

/// Where one server listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}:{}", self.host, self.port)
    }
}

impl Address {
    /// Reads `host:port` as a redirection names it; without a host it is the one
    /// that redirects.
    pub(super) fn read(text: &str, asked: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = if host.is_empty() { &asked.host } else { host };
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }
}

/// What a URL names.
#[derive(Debug)]
pub(super) enum Target {
    /// One server.
    One(ConnectionInfo),
    /// A cluster.
    Cluster(Reach),
}

/// How the servers of a cluster are reached.
#[derive(Debug)]
pub(super) struct Reach {
    /// Credentials and settings, the same for all.
    like: ConnectionInfo,
    /// Those that the URL names.
    pub(super) seeds: Vec<Address>,
}

/// What a cluster's URL begins with, and what the URL of one server then does.
const CLUSTER: [(&str, &str); 4] = [
    ("redis+cluster://", "redis://"),
    ("redis-cluster://", "redis://"),
    ("rediss+cluster://", "rediss://"),
    ("rediss-cluster://", "rediss://"),
];

impl Target {
    /// Whether it is a URL of a store at all, judging by how it begins.
    pub(super) fn begins(url: &str) -> bool {
        let single = ["redis://", "rediss://", "redis+unix://", "unix://"];
        CLUSTER.iter().map(|(scheme, _)| scheme).chain(&single).any(|s| url.starts_with(s))
    }

    pub(super) fn read(url: &str, options: &RedisOptions) -> Result<Self, ConnectError> {
        let cluster =
            CLUSTER.iter().find_map(|(scheme, single)| Some((*single, url.strip_prefix(scheme)?)));
        match cluster {
            None => one(url, options).map(Self::One),
            Some((scheme, rest)) => Reach::read(scheme, rest, options).map(Self::Cluster),
        }
    }
}

impl Reach {
    fn read(scheme: &str, rest: &str, options: &RedisOptions) -> Result<Self, ConnectError> {
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, hosts) = match authority.rfind('@') {
            Some(at) => authority.split_at(at + 1),
            None => ("", authority),
        };
        let mut seeds = Vec::new();
        let mut like = None;
        for host in hosts.split(',') {
            let server = one(&format!("{scheme}{user}{host}{path}"), options)?;
            if server.redis_settings().db() != 0 {
                let why = "a cluster has no databases: leave out the number";
                return Err(ConnectError::Url(why.to_owned()));
            }
            let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) =
                server.addr()
            else {
                return Err(ConnectError::Url("a cluster is reached by TCP".to_owned()));
            };
            seeds.push(Address { host: host.clone(), port: *port });
            like.get_or_insert(server);
        }
        let like = like.ok_or_else(|| ConnectError::Url("it names no server".to_owned()))?;
        Ok(Self { like, seeds })
    }

    /// How to connect to one of the servers.
    pub(super) fn to(&self, server: &Address) -> ConnectionInfo {
        let Address { host, port } = server.clone();
        let address = match self.like.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.like.clone().set_addr(address)
    }
}

fn one(url: &str, options: &RedisOptions) -> Result<ConnectionInfo, ConnectError> {
    let read = url.into_connection_info().map_err(|error| ConnectError::Url(error.to_string()))?;
    let tcp = TcpSettings::default().set_nodelay(true);
    // A peer that is gone without a word is noticed, not waited for.
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(options.response_timeout * 2);
    // With RESP3 a connection that breaks is noticed at once, not by the next
    // request, which would not know whether it had been sent.
    let settings = read.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(read.set_tcp_settings(tcp).set_redis_settings(settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(url: &str) -> Reach {
        match Target::read(url, &RedisOptions::default()).unwrap() {
            Target::Cluster(reach) => reach,
            Target::One(_) => panic!("{url} names a cluster"),
        }
    }

    #[test]
    fn a_cluster_is_named_by_some_of_its_servers() {
        let reach = cluster("redis+cluster://me:secret@a:7001,b,[::1]:7003/?protocol=resp3");
        let seeds: Vec<_> = reach.seeds.iter().map(ToString::to_string).collect();
        assert_eq!(seeds, ["a:7001", "b:6379", "::1:7003"]);
        let to = reach.to(&Address { host: "c".into(), port: 7 });
        assert!(matches!(to.addr(), ConnectionAddr::Tcp(host, 7) if host == "c"));
        assert_eq!(to.redis_settings().username(), Some("me"));
        assert_eq!(cluster("redis-cluster://a:1").seeds.len(), 1);
        for wrong in ["redis+cluster://a:1/3", "redis+cluster://", "redis+cluster://a:x"] {
            let read = Target::read(wrong, &RedisOptions::default());
            assert!(matches!(read, Err(ConnectError::Url(_))), "{wrong}");
        }
    }

    #[test]
    fn a_redirection_without_a_host_means_the_one_that_redirects() {
        let asked = Address { host: "a".into(), port: 1 };
        let read = |text| Address::read(text, &asked).map(|found| found.to_string());
        assert_eq!(read(":7"), Some("a:7".to_owned()));
        assert_eq!(read("b:7"), Some("b:7".to_owned()));
        assert_eq!(read("::1:7"), Some("::1:7".to_owned()));
        assert_eq!(read("b"), None);
    }
}
