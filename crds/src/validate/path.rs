//! The path of a field, as it is printed: `spec.worker.podTemplate.spec.env[2].name`.

use std::fmt;

/// Steps from the root of a manifest to a field.
#[derive(Default)]
pub(crate) struct Path {
    steps: Vec<Step>,
}

enum Step {
    Field(String),
    Index(usize),
}

impl Path {
    pub(crate) fn push_field(&mut self, name: &str) {
        self.steps.push(Step::Field(name.to_owned()));
    }

    pub(crate) fn push_index(&mut self, index: usize) {
        self.steps.push(Step::Index(index));
    }

    pub(crate) fn pop(&mut self) {
        self.steps.pop();
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Field(name) if is_plain(name) => {
                    f.write_str(if number == 0 { "" } else { "." })?;
                    f.write_str(name)?;
                }
                // Labels have dots and slashes in their keys.
                Step::Field(name) => write!(f, "[\"{}\"]", super::mistake::excerpt(name))?,
            }
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}
