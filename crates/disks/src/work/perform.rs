//! Which function does which task (umlmon, in the process that works on disks).

use super::{Error, Task, Watch, Workplace};

impl Workplace {
    /// Does the work, from the checks to the removal of half-made files.
    ///
    /// # Errors
    /// See [`Error`]. Nothing has changed then.
    pub fn perform(&self, task: &Task, watch: &mut dyn Watch) -> Result<(), Error> {
        task.check()?;
        match task {
            Task::Create {
                disk,
                bytes,
                sparse,
            } => self.create(disk, *bytes, *sparse, watch),
            Task::CreateCow { disk, backing } => self.create_cow(disk, backing),
            Task::Delete { disk } => self.delete(disk),
            Task::Copy {
                source,
                destination,
            } => self.copy(source, destination, watch),
            Task::Resize {
                disk,
                bytes,
                sparse,
            } => self.resize(disk, *bytes, *sparse, watch),
            Task::Import { disk, backing } => self.import(disk, backing),
            Task::Commit {
                source,
                destination,
            } => self.commit(source, destination, watch),
            Task::List => self.list(watch),
            Task::Tidy => self.tidy(),
            Task::Discard { disk } => self.discard(disk),
        }
    }
}
