//! What requests come over: TCP, a Unix socket, or TLS on TCP. Files leave by sendfile(2) where nothing encrypts them.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::server::TlsStream;

/// Bytes of one sendfile(2): more would keep other connections of this thread waiting.
const SENDFILE_PIECE: u64 = 2 << 20;
/// Bytes read at once where they must be encrypted.
const TLS_PIECE: u64 = 128 << 10;
/// How long a client may take nothing.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);

/// One client's connection.
pub enum Transport {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Writes bytes, however long the client takes as long as it takes something.
    pub async fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = patiently(self.write(bytes)).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[n..];
        }
        patiently(self.flush()).await
    }

    /// Writes a range of a file.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file is shorter than was promised.
    pub async fn send_file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<()> {
        if matches!(self, Transport::Tls(_)) {
            return self.copy(file, offset, length).await;
        }
        if length > SENDFILE_PIECE {
            // Only a hint: the kernel then reads further ahead.
            let _ = rustix::fs::fadvise(file, offset, None, rustix::fs::Advice::Sequential);
        }
        let mut done = 0;
        while done < length {
            let piece = (length - done).min(SENDFILE_PIECE);
            match patiently(self.send_piece(file, offset + done, piece)).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => done += n as u64,
            }
        }
        Ok(())
    }

    /// As much of a file as the socket takes.
    async fn send_piece(&self, file: &File, mut at: u64, length: u64) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => {
                stream.async_io(Interest::WRITABLE, || sendfile(stream, file, &mut at, length)).await
            }
            Transport::Unix(stream) => {
                stream.async_io(Interest::WRITABLE, || sendfile(stream, file, &mut at, length)).await
            }
            Transport::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    async fn copy(&mut self, file: &File, offset: u64, length: u64) -> io::Result<()> {
        let mut buffer = vec![0; usize::try_from(length.min(TLS_PIECE)).unwrap_or_default()];
        let mut done = 0;
        while done < length {
            let piece = usize::try_from((length - done).min(TLS_PIECE)).unwrap_or_default();
            file.read_exact_at(&mut buffer[..piece], offset + done)?;
            self.send(&buffer[..piece]).await?;
            done += piece as u64;
        }
        Ok(())
    }
}

fn sendfile(socket: impl std::os::fd::AsFd, file: &File, at: &mut u64, length: u64) -> io::Result<usize> {
    Ok(rustix::fs::sendfile(socket, file, Some(at), usize::try_from(length).unwrap_or(usize::MAX))?)
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(WRITE_PATIENCE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
