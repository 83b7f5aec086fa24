//! What Rowbridge promises, shown on real servers: each file one kind of trouble, each test one story.

mod oracle;
mod printing;
mod rig;
mod workload;

mod agents;
mod canary;
mod captures;
mod checking;
mod compaction;
mod documents;
mod dry_run;
mod edits;
mod init;
mod init_collections;
mod instances;
mod kills;
mod legacy;
mod operations;
mod privacy;
mod readme;
mod remembering;
mod reseeding;
mod rows;
mod seats;
mod servers;
mod snapshot;
mod statements;
mod states;
mod terminal;
mod working_copy;
