//! The certificate that a node shows, read again when its files change. It must not know to whom it is shown.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;

use crate::config::{TlsConfig, TlsFiles};
use crate::drain::Drain;

/// How often the files are looked at: two of a few kilobytes, so by what is in them, which no clock and no link can hide.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Certificate {
    held: watch::Receiver<Arc<CertifiedKey>>,
    ask: Arc<Notify>,
}

impl Certificate {
    /// # Errors
    /// Why nothing can be encrypted with these files.
    pub fn open(config: &TlsConfig, drain: &Drain) -> Result<Self, String> {
        let files = config.read()?;
        let (hold, held) = watch::channel(Arc::new(files.certified()?));
        let ask = Arc::new(Notify::new());
        let keeper = Keeper { config: config.clone(), seen: Ok(files), hold };
        let (stopped, asked) = (drain.stopped().clone(), Arc::clone(&ask));
        drain.spawn("certificate", async move {
            tokio::select! {
                () = keeper.keep(asked) => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self { held, ask })
    }

    /// Has the files looked at now.
    pub fn look(&self) {
        self.ask.notify_one();
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows the library's own versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.held.borrow()))
    }
}

struct Keeper {
    config: TlsConfig,
    seen: Result<TlsFiles, String>,
    hold: watch::Sender<Arc<CertifiedKey>>,
}

impl Keeper {
    async fn keep(mut self, asked: Arc<Notify>) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = asked.notified() => {}
                _ = look.tick() => {}
            }
            let config = self.config.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || config.read()).await else { continue };
            // What was judged once is not told again.
            if read != self.seen {
                self.judge(&read);
                self.seen = read;
            }
        }
    }

    fn judge(&self, read: &Result<TlsFiles, String>) {
        match read.as_ref().map_err(Clone::clone).and_then(TlsFiles::certified) {
            Ok(certified) => {
                self.hold.send_replace(Arc::new(certified));
                tracing::info!("the certificate was changed");
            }
            Err(why) => tracing::error!(why, "the new certificate can't be used, so the one before stays"),
        }
    }
}
