//! What addresses of servers say beside the server: escapes, parameters, and whose certificates to trust.
//! It must not know what kind of server it is.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The value of a parameter behind the `?` of an address.
pub(in crate::backend) fn parameter(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.map(unescape)
}

/// Trusts the certificates in this file and no others.
pub(in crate::backend) fn trusting(file: &Path) -> Result<ClientConfig, String> {
    let unreadable = || "its file of certificates can't be read".to_owned();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|_| unreadable())? {
        roots.add(certificate.map_err(|_| unreadable())?).map_err(|_| unreadable())?;
    }
    if roots.is_empty() {
        return Err(unreadable());
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Percent-escapes of an address; what isn't one stands for itself.
pub(super) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escaped = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_whole() {
        let url = "rediss-cluster://h:1?node=a:2&xca=3&ca=/a%20b.pem&node=b:4";
        assert_eq!(parameter(url, "ca").as_deref(), Some("/a b.pem"));
        assert_eq!(parameter(url, "node").as_deref(), Some("a:2"));
        assert_eq!(parameter(url, "c"), None);
        assert_eq!(parameter("redis://h", "ca"), None);
    }

    #[test]
    fn escapes_that_are_none_stand_for_themselves() {
        for (text, plain) in [("a%40b", "a@b"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%C4%91", "đ"), ("", "")] {
            assert_eq!(unescape(text), plain);
        }
    }

    #[test]
    fn a_file_without_certificates_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(trusting(file.path()).is_err());
        assert!(trusting(Path::new("/nowhere/ca.pem")).is_err());
    }
}
