//! Waiting for a condition, never for an amount of time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks until there is an answer.
///
/// # Errors
/// The question's own error at once; after `patience`, one that says what was waited for.
pub fn until<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {patience:?} for {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_and_says_on_what() {
        let error = until("rain", Duration::from_millis(1), || Ok(None::<()>)).unwrap_err();
        assert!(error.to_string().contains("rain"), "{error}");
    }

    #[test]
    fn asks_again_until_there_is_an_answer() {
        let mut asked = 0;
        let answer = until("the third time", Duration::from_secs(10), || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(answer.unwrap(), 3);
    }
}
