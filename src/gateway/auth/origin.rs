//! Where a request comes from: the page that made a browser send it, and the address it was sent from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap, header};

use crate::config::{GatewayConfig, Network};

const FORWARDED_FOR: &str = "x-forwarded-for";
/// A home or an office gets so many bits of an IPv6 address: the rest is its own to choose.
const IPV6_PREFIX_BITS: u32 = 64;

/// What `Origin` says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Origin {
    /// Our own page, or one that the operator allows.
    Allowed,
    /// Another site's.
    Foreign,
    /// Nothing: no page sent it over a socket, nor with a method that changes something.
    Absent,
}

/// Whether a page of this origin may use our cookies: the node's own (as the browser named it) or one that the operator
/// allows. Programs that aren't browsers send no origin.
pub(in crate::gateway) fn of(headers: &HeaderMap, config: &GatewayConfig) -> Origin {
    let Some(origin) = headers.get(header::ORIGIN) else { return Origin::Absent };
    let Ok(origin) = origin.to_str() else { return Origin::Foreign };
    let mut allowed = config.allowed_origins.iter().chain(&config.public_url);
    if allowed.any(|other| other.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
        return Origin::Allowed;
    }
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    match (own, authority) {
        (Some(own), Some(authority)) if own.eq_ignore_ascii_case(authority) => Origin::Allowed,
        _ => Origin::Foreign,
    }
}

/// The address that a request came from. A proxy's word counts only if the operator trusts it; what stands further left was
/// written by whoever sent it.
pub(in crate::gateway) fn address(headers: &HeaderMap, extensions: &Extensions, trusted: &[Network]) -> IpAddr {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let mut address = peer.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)).to_canonical();
    let chains = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = chains.flat_map(|chain| chain.split(',')).map(str::trim).collect();
    for hop in hops.iter().rev() {
        if !trusted.iter().any(|network| network.contains(address)) {
            break;
        }
        let Ok(before) = hop.parse::<IpAddr>() else { break };
        address = before.to_canonical();
    }
    address
}

/// What is limited together: an IPv4 address, or the network that an IPv6 address's owner can choose from.
pub(in crate::gateway) fn neighbourhood(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let kept = address.to_bits() & (u128::MAX << (128 - IPV6_PREFIX_BITS));
            format!("{}/{IPV6_PREFIX_BITS}", Ipv6Addr::from_bits(kept))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::config;

    fn gateway() -> GatewayConfig {
        let Ok(config::Command::Run(config)) = config::load(["chatnode"], []) else { panic!("the default") };
        let allowed_origins = vec!["https://friend.example".to_owned()];
        GatewayConfig { allowed_origins, public_url: Some("https://chat.example".to_owned()), ..config.gateway }
    }

    #[test]
    fn only_the_own_origin_and_the_allowed_ones_pass() {
        let of = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("node-1.example:8080"));
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            super::of(&headers, &gateway())
        };
        for good in
            ["http://node-1.example:8080", "https://NODE-1.example:8080", "https://friend.example", "https://chat.example"]
        {
            assert_eq!(of(good), Origin::Allowed, "{good}");
        }
        for evil in [
            "http://node-1.example",
            "null",
            "http://evil.example",
            "http://chat.example",
            "http://node-1.example:8080.evil.example",
            "ws://node-1.example:8080",
            "",
        ] {
            assert_eq!(of(evil), Origin::Foreign, "{evil}");
        }
        assert_eq!(super::of(&HeaderMap::new(), &gateway()), Origin::Absent);
    }

    #[test]
    fn a_forwarded_address_counts_only_from_those_who_are_trusted() {
        let from = |peer: &str, forwarded: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for chain in forwarded {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(chain));
            }
            let mut extensions = Extensions::new();
            extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
            let trusted = [Network::parse("10.0.0.0/8").unwrap(), Network::parse("127.0.0.1").unwrap()];
            address(&headers, &extensions, &trusted).to_string()
        };
        assert_eq!(from("203.0.113.9", &["198.51.100.1"]), "203.0.113.9", "a stranger says what it likes");
        assert_eq!(from("127.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(from("10.0.0.1", &["6.6.6.6, 198.51.100.1, 10.0.0.2"]), "198.51.100.1", "nearest that is not ours");
        assert_eq!(from("10.0.0.1", &["6.6.6.6", "198.51.100.1"]), "198.51.100.1", "the last header is the nearest");
        assert_eq!(from("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(from("::ffff:127.0.0.1", &["2001:db8::7"]), "2001:db8::7");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(neighbourhood("2001:db8:1:2:3:4:5:6".parse().unwrap()), "2001:db8:1:2::/64");
        assert_eq!(neighbourhood("203.0.113.9".parse().unwrap()), "203.0.113.9");
    }
}
