//! What a crash says: where, and only words that stand in the program.
//!
//! A panic's message may be made of data: a slice that fails quotes the text it was to cut. Such a message is
//! withheld; the place is enough to begin with, and [`SHOW`] shows the rest to whoever may see rows.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};

use crate::screen;
use crate::state;

/// The environment variable that shows messages whole.
const SHOW: &str = "ROWBRIDGE_CRASH_MESSAGES";

/// Whether messages that may quote a row are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Messages {
    Withheld,
    Shown,
}

/// From now on panics of this process are reported so.
#[allow(
    clippy::print_stderr,
    reason = "the process is ending, and logging may be what broke"
)]
pub(super) fn report_discreetly() {
    let messages = match std::env::var_os(SHOW) {
        None => Messages::Withheld,
        Some(_) => Messages::Shown,
    };
    panic::set_hook(Box::new(move |info| {
        screen::clear_if_free();
        state::distrust_open_folders();
        eprintln!("{}", describe(info, messages));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            eprintln!("{backtrace}");
        }
    }));
}

fn describe(info: &PanicHookInfo<'_>, messages: Messages) -> String {
    let thread = std::thread::current();
    let place = info.location().map_or_else(
        || "an unknown place".to_owned(),
        |location| format!("{}:{}", location.file(), location.line()),
    );
    format!(
        "rowbridge crashed, which is a mistake in it: at {place}, thread `{}`: {}",
        thread.name().unwrap_or("unnamed"),
        message(info.payload(), messages)
    )
}

/// The message, if it was written in the program and not made of data.
fn message(payload: &(dyn Any + Send), messages: Messages) -> &str {
    let made = payload.downcast_ref::<String>().map(String::as_str);
    match (payload.downcast_ref::<&'static str>(), made, messages) {
        (Some(written), _, _) => written,
        (None, Some(made), Messages::Shown) => made,
        _ => {
            "its message is withheld, because it may quote a row; ROWBRIDGE_CRASH_MESSAGES=1 shows it"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a panic of this kind carries.
    fn payload_of(panic: impl FnOnce() + panic::UnwindSafe) -> Box<dyn Any + Send> {
        panic::catch_unwind(panic).unwrap_err()
    }

    #[test]
    fn a_message_made_of_a_row_is_withheld() {
        let row = "Ö, the name of a passenger".to_owned();
        let cut = payload_of(move || assert_eq!(&row[..1], ""));
        let whole = message(&*cut, Messages::Shown);
        assert!(whole.contains("the name of a passenger"), "{whole}");
        let said = message(&*cut, Messages::Withheld);
        assert!(!said.contains("passenger"), "{said}");
        assert!(said.contains(SHOW), "{said}");
    }

    #[test]
    fn a_message_of_the_program_is_shown() {
        let broken = payload_of(|| panic!("a batch stays below 4 GiB"));
        assert_eq!(
            message(&*broken, Messages::Withheld),
            "a batch stays below 4 GiB"
        );
    }
}
