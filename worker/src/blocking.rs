//! Work that blocks, kept off the threads of the async runtime.

/// Runs `work` on a thread where it may take its time.
///
/// # Panics
/// If `work` does.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
