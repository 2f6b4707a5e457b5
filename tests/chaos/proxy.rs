//! A TCP link that can be cut, go silent, or be slow. It must not know what is spoken over it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const CHUNK_BYTES: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Open,
    /// Connections end at once, and none is let in.
    Cut,
    /// Connections stay, or are even made, and nothing comes through: a cable that somebody pulled. What was sent
    /// meanwhile arrives when the link is open again.
    Hole,
    /// Every piece takes this long.
    Slow(Duration),
}

/// One link. Dropped, it is cut for good.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let address = listener.local_addr().expect("its number");
        let (mode, watched) = watch::channel(Mode::Open);
        Self { address, mode, task: tokio::spawn(accept(listener, to, watched)) }
    }

    /// A link to the server at this address, and the address that leads through it.
    pub(crate) async fn before(url: &str, port: u16) -> (Self, String) {
        let proxy = Self::start(port).await;
        let through = url.replace(&port.to_string(), &proxy.address.port().to_string());
        (proxy, through)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, to: u16, mode: watch::Receiver<Mode>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                links.spawn(link(client, to, mode.clone()));
            },
            Some(_) = links.join_next() => {}
        }
    }
}

/// Both directions, until one ends or the link is cut.
async fn link(client: TcpStream, to: u16, mut mode: watch::Receiver<Mode>) {
    if *mode.borrow() == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (up, down) = (mode.clone(), mode.clone());
    tokio::select! {
        () = pump(from_client, to_server, up) => {}
        () = pump(from_server, to_client, down) => {}
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let Ok(mode) = mode.wait_for(|mode| *mode != Mode::Hole).await.map(|mode| *mode) else { return };
        if let Mode::Slow(pause) = mode {
            tokio::time::sleep(pause).await;
        }
        if to.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_is_open_cut_silent_and_open_again() {
        let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = echo.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((stream, _)) = echo.accept().await {
                all.spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let proxy = Proxy::start(port).await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let mut back = [0; 4];
        stream.write_all(b"ping").await.unwrap();
        stream.read_exact(&mut back).await.unwrap();
        proxy.set(Mode::Hole);
        stream.write_all(b"held").await.unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut back)).await;
        assert!(silent.is_err(), "nothing comes through");
        proxy.set(Mode::Slow(Duration::from_millis(1)));
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"held");
        proxy.set(Mode::Cut);
        assert!(matches!(stream.read(&mut back).await, Ok(0) | Err(_)));
        let mut refused = TcpStream::connect(proxy.address).await.unwrap();
        assert!(matches!(refused.read(&mut back).await, Ok(0) | Err(_)));
        serving.abort();
    }
}
