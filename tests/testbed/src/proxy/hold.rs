//! Holding one Kafka request, or its response, on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

/// Where an exchange is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldPoint {
    /// The broker has not seen the request.
    Request,
    /// The broker has answered, the client does not know.
    Response,
}

/// The proxy's side of a hold.
pub(super) struct Armed {
    pub(super) api_key: i16,
    pub(super) point: HoldPoint,
    taken: AtomicBool,
    caught: CancellationToken,
    released: CancellationToken,
}

impl Armed {
    /// Whether this request is the one; a hold takes one request.
    pub(super) fn takes(&self, api_key: i16) -> bool {
        api_key == self.api_key && !self.taken.swap(true, Ordering::SeqCst)
    }

    /// Reports the catch, and returns when the test lets go.
    pub(super) async fn wait(&self) {
        self.caught.cancel();
        self.released.cancelled().await;
    }
}

/// The test's side of a hold; dropping it releases.
pub struct Hold(Arc<Armed>);

pub(super) fn new(api_key: i16, point: HoldPoint) -> (Hold, Arc<Armed>) {
    let armed = Arc::new(Armed {
        api_key,
        point,
        taken: AtomicBool::new(false),
        caught: CancellationToken::new(),
        released: CancellationToken::new(),
    });
    (Hold(Arc::clone(&armed)), armed)
}

impl Hold {
    /// Returns when the frame is in the proxy's hands.
    ///
    /// # Errors
    /// When none came in time.
    pub async fn caught(&self, deadline: Duration) -> Result<()> {
        let Armed {
            api_key,
            point,
            caught,
            ..
        } = &*self.0;
        tokio::time::timeout(deadline, caught.cancelled())
            .await
            .with_context(|| {
                format!("no {point:?} of Kafka API {api_key} passed the proxy within {deadline:?}")
            })
    }

    /// Lets the frame go on its way.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.released.cancel();
    }
}
