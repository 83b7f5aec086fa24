//! The `rowbridge` binary; everything is in the library, so that others can embed the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    rowbridge::cli::main()
}
