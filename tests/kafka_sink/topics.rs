//! Topics created, compared, and changed under a pipeline.
