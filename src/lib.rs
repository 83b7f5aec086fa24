//! rowbridge
