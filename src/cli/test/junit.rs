//! Results for CI systems: JUnit XML.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{TestedPack, report};

/// Writes one suite per pack.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(tested: &[TestedPack], path: &Path) -> anyhow::Result<()> {
    let mut junit = Report::new("rowbridge test");
    for pack in tested {
        let mut suite = TestSuite::new(pack.folder.as_str());
        for (case, outcome) in &pack.cases {
            let mut status = TestCaseStatus::success();
            if !outcome.passed() {
                status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message("the events differ from those expected");
                status.set_description(report::failure_text(case, outcome));
            }
            let mut test = TestCase::new(case.name.as_str(), status);
            test.set_classname(case.file.as_str());
            suite.add_test_case(test);
        }
        junit.add_test_suite(suite);
    }
    junit.serialize(BufWriter::new(File::create(path)?))?;
    Ok(())
}
