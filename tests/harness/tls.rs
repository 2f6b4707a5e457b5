//! Certificates that need no other program, and clients that trust one of them. It must not know what is tested.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chatnode::config::TlsConfig;
use reqwest::Client;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate of 127.0.0.1 that vouches for itself, with its key.
pub(crate) struct Certificate {
    der: Vec<u8>,
    key: Vec<u8>,
}

impl Certificate {
    pub(crate) fn generate() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).expect("its own key");
        let told = to_be_signed(pair.public_key().as_ref());
        let signature = pair.sign(&random, &told).expect("a signature");
        let der = sequence(&[&told, &sequence(&[ECDSA_WITH_SHA256]), &bits(signature.as_ref())]);
        Self { der, key: pkcs8.as_ref().to_vec() }
    }

    pub(crate) fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    pub(crate) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }

    /// Lays both into this directory, in place of what was there.
    pub(crate) fn write(&self, dir: &Path) -> TlsConfig {
        let files = TlsConfig { certificate: dir.join("certificate.pem"), key: dir.join("key.pem") };
        std::fs::write(&files.certificate, self.certificate_pem()).expect("a file");
        std::fs::write(&files.key, self.key_pem()).expect("a file");
        files
    }

    fn trusted(&self, alpn: &[&[u8]]) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(self.der.clone())).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.expect("versions that the provider knows").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// A client that talks to whoever shows this certificate, and to nobody else.
    pub(crate) fn client(&self) -> Client {
        Client::builder().no_proxy().tls_backend_preconfigured(self.trusted(&[])).build().expect("a client")
    }

    /// The same, on the wire.
    pub(crate) async fn connect(&self, address: SocketAddr, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        TlsConnector::from(Arc::new(self.trusted(alpn))).connect(name, TcpStream::connect(address).await?).await
    }
}

const ECDSA_WITH_SHA256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const EC_PUBLIC_KEY: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const PRIME256V1: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const COMMON_NAME: &[u8] = &[0x06, 3, 0x55, 4, 3];
const SUBJECT_ALT_NAME: &[u8] = &[0x06, 3, 0x55, 0x1d, 17];
const VERSION_3: &[u8] = &[0xa0, 3, 2, 1, 2];
const SERIAL: &[u8] = &[2, 1, 1];

/// RFC 5280, section 4.1.2: as little of it as anybody accepts.
fn to_be_signed(point: &[u8]) -> Vec<u8> {
    let name = sequence(&[&tagged(0x31, &sequence(&[COMMON_NAME, &tagged(0x0c, b"chatnode test")]))]);
    let validity = sequence(&[&tagged(0x17, b"200101000000Z"), &tagged(0x17, b"490101000000Z")]);
    let key = sequence(&[&sequence(&[EC_PUBLIC_KEY, PRIME256V1]), &bits(point)]);
    let alternatives = sequence(&[&tagged(0x87, &[127, 0, 0, 1]), &tagged(0x82, b"localhost")]);
    let extensions = sequence(&[&sequence(&[SUBJECT_ALT_NAME, &tagged(0x04, &alternatives)])]);
    let algorithm = sequence(&[ECDSA_WITH_SHA256]);
    sequence(&[VERSION_3, SERIAL, &algorithm, &name, &validity, &name, &key, &tagged(0xa3, &extensions)])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tagged(0x30, &parts.concat())
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    tagged(0x03, &[&[0], bytes].concat())
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short one").to_be_bytes();
    let length: &[u8] = match length {
        [0, short @ 0..=127] => &[short],
        [0, short] => &[0x81, short],
        [high, low] => &[0x82, high, low],
    };
    [&[tag], length, content].concat()
}

fn pem(what: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}
