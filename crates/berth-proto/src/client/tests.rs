//! What a client knows of its connection.

use super::*;
use crate::ttrpc::Server;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;

fn connected() -> (Client, StdUnixStream) {
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    (Client::from_std(ours).unwrap(), theirs)
}

async fn call(client: &Client) -> Result<Request, CallError> {
    client.call("s", "M", &Request::default()).await
}

/// Reads one call whole, and answers it if it is to be answered.
fn serve(mut peer: &StdUnixStream, server: &mut Server, answer: bool) {
    let call = loop {
        let mut bytes = [0; 4096];
        let count = peer.read(&mut bytes).unwrap();
        server.feed(&bytes[..count]);
        if let Some(call) = server.next_call() {
            break call;
        }
    };
    if answer {
        server.answer(call.stream, Ok(Vec::new()));
        peer.write_all(&std::mem::take(&mut server.outgoing)).unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_call_was_never_heard_only_if_it_was_not_read() {
    runtime().block_on(async {
        // The other side was gone before.
        let (client, peer) = connected();
        drop(peer);
        assert!(call(&client).await.unwrap_err().was_never_heard());
        // It went with the call unread.
        let (client, peer) = connected();
        let (result, ()) = tokio::join!(call(&client), async {
            drop(peer);
        });
        assert!(result.unwrap_err().was_never_heard());
        // It went after it had read the call.
        let (client, peer) = connected();
        let reader = tokio::task::spawn_blocking(move || serve(&peer, &mut Server::default(), false));
        let error = call(&client).await.unwrap_err();
        assert!(matches!(error, CallError::Closed { .. }) && !error.was_never_heard(), "{error:?}");
        reader.await.unwrap();
    });
}

#[test]
fn a_client_is_alone_only_where_nothing_is_under_way() {
    runtime().block_on(async {
        let (client, peer) = connected();
        let reader = tokio::task::spawn_blocking(move || {
            let mut server = Server::default();
            (0..2).for_each(|_| serve(&peer, &mut server, true));
            (peer, server)
        });
        call(&client).await.unwrap();
        // The numbers of calls go on.
        let client = client.alone().expect("it is");
        call(&client).await.unwrap();
        let (peer, mut server) = reader.await.unwrap();
        assert!(client.is_quiet());

        let other = client.clone();
        assert!(client.alone().is_none());
        // A call that nobody waits for any more may still be answered.
        let (forgotten, _) = tokio::join!(
            tokio::time::timeout(std::time::Duration::ZERO, call(&other)),
            tokio::task::spawn_blocking(move || {
                serve(&peer, &mut server, false);
                peer
            })
        );
        assert!(forgotten.is_err());
        assert!(!other.is_quiet());
        assert!(other.alone().is_none());
    });
}

#[test]
fn a_client_whose_other_side_speaks_or_goes_is_not_quiet() {
    runtime().block_on(async {
        let (client, mut peer) = connected();
        assert!(client.is_quiet());
        peer.write_all(b"?").unwrap();
        assert!(!client.is_quiet());
        let (client, peer) = connected();
        drop(peer);
        assert!(!client.is_quiet());
    });
}
