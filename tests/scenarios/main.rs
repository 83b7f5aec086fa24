//! What Rowbridge promises, shown on real servers: each file one kind of trouble, each test one story.

mod oracle;
mod rig;
mod workload;

mod agents;
mod checking;
mod dry_run;
mod edits;
mod init;
mod instances;
mod kills;
mod legacy;
mod rows;
mod seats;
mod servers;
mod snapshot;
mod states;
