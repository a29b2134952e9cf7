//! The report and the two files of figures beside it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::media;

use super::{Comparison, Error, report_html, tables};

/// Name of the report in a folder.
const IN_FOLDER: &str = "compare.html";

/// Where everything goes; checked before anything runs.
#[derive(Debug)]
pub struct Files {
    html: PathBuf,
    json: PathBuf,
    csv: PathBuf,
}

impl Files {
    /// The page at `output`, or under its usual name in that folder; nothing is written yet.
    ///
    /// # Errors
    /// For another suffix than .html, a folder that is not there, and files that are there already.
    pub fn new(output: &Path, overwrite: bool) -> Result<Files, Error> {
        let html = match media::is_folder(output) {
            true => output.join(IN_FOLDER),
            false => output.to_owned(),
        };
        let suffix = html.extension().map(|suffix| suffix.to_ascii_lowercase());
        if suffix.is_none_or(|suffix| suffix != "html" && suffix != "htm") {
            return Err(Error::Output(format!(
                "--output: a report is an .html file, {output:?} is none; .json and .csv are written beside it"
            )));
        }
        let folder = html
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(Error::Output(format!(
                "--output: there is no folder {folder:?}; make it, or name another"
            )));
        }
        let files = Files {
            json: html.with_extension("json"),
            csv: html.with_extension("csv"),
            html,
        };
        let all = [&files.html, &files.json, &files.csv];
        let taken = all
            .into_iter()
            .find(|path| fs::symlink_metadata(path).is_ok());
        match taken.filter(|_| !overwrite) {
            Some(path) => Err(Error::Output(format!(
                "the file exists; choose another name or replace it with --overwrite (-y): {path:?}"
            ))),
            None => Ok(files),
        }
    }

    /// Writes all three.
    ///
    /// # Errors
    /// When one of them cannot be written.
    pub fn write(&self, comparison: &Comparison) -> Result<(), Error> {
        // Figures first: they are what cannot be made again from the others.
        let texts = [
            (&self.json, json(comparison)),
            (&self.csv, tables::csv(&comparison.runs)),
            (&self.html, report_html::page(comparison, self)?),
        ];
        for (path, text) in texts {
            fs::write(path, text).map_err(|source| Error::Write {
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// Where the page is.
    pub fn html(&self) -> &Path {
        &self.html
    }

    /// Names of the two files beside the report.
    pub(super) fn beside(&self) -> [String; 2] {
        [&self.json, &self.csv].map(|path| {
            let name = path.file_name().unwrap_or(path.as_os_str());
            name.to_string_lossy().into_owned()
        })
    }
}

/// All figures. Infinite PSNR, that of equal frames, is `null`.
pub fn json(comparison: &Comparison) -> String {
    // Nothing in it can fail to be written: keys are strings, and numbers that JSON lacks become null.
    serde_json::to_string_pretty(comparison).unwrap_or_default()
}
