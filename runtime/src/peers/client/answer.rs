//! An answer's body, read to its end but no further than it may go: another node's word is
//! signed, but nothing tells that before all of it is here.

use bytes::{Bytes, BytesMut};

use super::innermost;

/// Bytes of an answer to an internal call: far above a page of a session.
pub(super) const OF_A_CALL: usize = 32 * 1024 * 1024;
/// Bytes of an answer to a request to another node's function.
pub(crate) const OF_A_FUNCTION: usize = 256 * 1024 * 1024;

/// The whole body; the error is a sentence.
pub(crate) async fn whole(mut sent: reqwest::Response, most: usize) -> Result<Bytes, String> {
    let too_large = || Err(format!("its answer has more than {most} bytes"));
    let said = sent.content_length().and_then(|said| usize::try_from(said).ok());
    if said.is_some_and(|said| said > most) {
        return too_large();
    }
    let next =
        async |sent: &mut reqwest::Response| sent.chunk().await.map_err(|error| innermost(&error));
    let Some(first) = next(&mut sent).await? else { return Ok(Bytes::new()) };
    if first.len() > most {
        return too_large();
    }
    // Mostly it came in one piece, which is not copied.
    let Some(second) = next(&mut sent).await? else { return Ok(first) };
    let mut body = BytesMut::with_capacity(said.unwrap_or(0).max(first.len() + second.len()));
    body.extend_from_slice(&first);
    let mut piece = Some(second);
    while let Some(more) = piece {
        if body.len() + more.len() > most {
            return too_large();
        }
        body.extend_from_slice(&more);
        piece = next(&mut sent).await?;
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// An answer in these pieces, of which nothing says how long it is.
    fn answer(pieces: &[&'static str]) -> reqwest::Response {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(piece.as_bytes()))))
            .collect();
        let body = StreamBody::new(futures_util::stream::iter(pieces));
        http::Response::new(reqwest::Body::wrap(body)).into()
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_in_one_piece_or_many() {
        let in_pieces: [(&[&str], &str); 3] =
            [(&[], ""), (&["one"], "one"), (&["one", "two", "three"], "onetwothree")];
        for (pieces, in_one) in in_pieces {
            assert_eq!(whole(answer(pieces), 11).await.unwrap(), in_one);
        }
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_given_up() {
        let too_long: [&[&str]; 2] = [&["one", "two", "three"], &["onetwothree"]];
        for pieces in too_long {
            let why = whole(answer(pieces), 10).await.unwrap_err();
            assert!(why.contains("more than 10 bytes"), "{why}");
        }
    }
}
