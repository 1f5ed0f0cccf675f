//! The asynchronous runtime that a verb's requests run on.

use std::future::Future;

use crate::exit::{Context as _, Result};

/// Runs `future` on this thread, with the threads of a runtime beside it. Blocking work that is
/// left over does not hold the program's end up.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}
