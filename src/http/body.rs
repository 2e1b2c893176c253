//! Request bodies: read within bounds, or refused before they are read.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};

use super::problem::Problem;
use crate::model::ErrorCode;

/// The most bytes of a request's body (R21): 4 MiB.
pub const MAX_BODY: usize = 4 * 1024 * 1024;

/// How long a whole body may take to arrive (R19).
const BODY_TIMEOUT: Duration = Duration::from_secs(9);

/// How deep JSON may nest (R21).
const MAX_DEPTH: usize = 128;

/// Refuses by the headers alone what would be refused after reading as well.
///
/// # Errors
/// 413 if the body says that it is too long, 415 if it is compressed.
pub fn check_headers(headers: &HeaderMap) -> Result<(), Problem> {
    let encoded = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if encoded {
        return Err(unsupported("compressed bodies are not taken; send it as it is"));
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match length.and_then(|text| text.parse::<u64>().ok()) {
        Some(length) if length > MAX_BODY as u64 => Err(too_large()),
        _ => Ok(()),
    }
}

/// Reads a body of at most [`MAX_BODY`] bytes, however it is framed.
///
/// # Errors
/// 413 as soon as it is too long, 408 if it takes too long, 400 if it breaks off.
pub async fn read<S, B, E>(body: S) -> Result<Bytes, Problem>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let collect = async {
        let mut body = std::pin::pin!(body);
        let mut held = BytesMut::new();
        while let Some(part) = body.next().await {
            let Ok(part) = part else {
                return Err(Problem::invalid("the body broke off or is not well framed"));
            };
            if held.len() + part.remaining() > MAX_BODY {
                return Err(too_large());
            }
            held.extend_from_slice(&collect_part(part));
        }
        Ok(held.freeze())
    };
    match tokio::time::timeout(BODY_TIMEOUT, collect).await {
        Ok(result) => result,
        Err(_) => Err(Problem::with_status(
            StatusCode::REQUEST_TIMEOUT,
            ErrorCode::InvalidArgument,
            "the body took too long to arrive",
        )),
    }
}

fn collect_part(mut part: impl Buf) -> Bytes {
    part.copy_to_bytes(part.remaining())
}

/// The media type without its parameters, in lower case.
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.and_then(|text| text.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase()
}

/// Refuses JSON that nests deeper than any honest message, before a parser sees it.
///
/// # Errors
/// 400 if it is deeper than 128.
pub fn check_depth(json: &[u8]) -> Result<(), Problem> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Problem::invalid(format!("the JSON nests deeper than {MAX_DEPTH}")));
        }
    }
    Ok(())
}

pub fn unsupported(message: &str) -> Problem {
    Problem::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::InvalidArgument, message)
}

fn too_large() -> Problem {
    Problem::new(ErrorCode::TooLarge, "the body has more than 4 MiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http::HeaderValue;
    use std::convert::Infallible;

    #[tokio::test]
    async fn a_body_is_cut_off_at_its_bound_whatever_it_said() {
        let part = Bytes::from(vec![0; 1024 * 1024]);
        let parts = |count| stream::repeat(Ok::<_, Infallible>(part.clone())).take(count);
        assert_eq!(read(parts(4)).await.unwrap().len(), MAX_BODY);
        assert_eq!(read(parts(5)).await.unwrap_err().status, 413);
        // Endless: refused without reading to an end.
        assert_eq!(read(parts(usize::MAX)).await.unwrap_err().status, 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_a_timeout() {
        let never = stream::pending::<Result<Bytes, Infallible>>();
        assert_eq!(read(never).await.unwrap_err().status, 408);
    }

    #[test]
    fn depth_counts_brackets_outside_of_texts() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check_depth(nested(128).as_bytes()).is_ok());
        assert!(check_depth(nested(129).as_bytes()).is_err());
        let text = format!("{{\"a\":\"{}\\\"[\"}}", "[".repeat(500));
        assert!(check_depth(text.as_bytes()).is_ok());
    }

    #[test]
    fn compressed_and_overlong_bodies_are_refused_unread() {
        let with = |name, value: &str| {
            check_headers(&HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]))
        };
        assert_eq!(with(CONTENT_ENCODING, "gzip").unwrap_err().status, 415);
        assert!(with(CONTENT_ENCODING, "identity").is_ok());
        assert_eq!(with(CONTENT_LENGTH, "4194305").unwrap_err().status, 413);
        assert!(with(CONTENT_LENGTH, "4194304").is_ok());
    }
}
