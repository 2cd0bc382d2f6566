//! Lists of tasks, newest first. `bulk` has actions on many tasks, `count` has counts, and `failures` groups of
//! failed tasks.
//!
//! Live tasks come from the machine, page by page, so the cost of listing running tasks does not depend on
//! the number of waiting ones. Ended tasks come from the store. Both are merged by id. A call examines a
//! bounded number of tasks, reads a bounded number of bytes and takes a bounded time, and says how many tasks
//! it examined. If a filter matches few tasks, a page is short and has a cursor. Pages have no payloads.
//!
//! `part` has the tasks that may match by their state, `compare` reads the definitions that decide, and `bounds`
//! has the bounds of a call.

mod bounds;
mod bulk;
mod compare;
mod count;
mod ended;
mod failures;
mod part;

use std::time::Duration;

use rota_core::TaskId;

use self::{
    bounds::{Bounds, TIME_MAX},
    part::State,
};
use crate::{
    api::{Cursor, EngineError, TaskFilter, TaskPage},
    engine::Engine,
};

pub use self::{
    count::TaskCount,
    failures::{FailureFilter, FailureGroup, FailureList, FailureState},
};

/// Number of tasks to take at a time, because a read of the machine blocks its loop.
const PART: usize = 256;

impl Engine {
    /// Tasks, newest first, without payloads. `page_size` is at least 1.
    ///
    /// # Errors
    /// When the engine or the store does not answer.
    pub async fn list(
        &self,
        filter: &TaskFilter,
        page_size: usize,
        after: Option<Cursor>,
    ) -> Result<TaskPage, EngineError> {
        self.list_within(TIME_MAX, filter, page_size, after).await
    }

    /// As [`Engine::list`], within a time of up to 2 seconds. A page can be short, or empty, and have a cursor.
    ///
    /// If the filter searches for the id of a task, the first page has only that task, if it matches.
    ///
    /// # Errors
    /// As [`Engine::list`].
    pub async fn list_within(
        &self,
        time_limit: Duration,
        filter: &TaskFilter,
        page_size: usize,
        after: Option<Cursor>,
    ) -> Result<TaskPage, EngineError> {
        self.list_bounded(&mut Bounds::new(time_limit), filter, page_size, after).await
    }

    async fn list_bounded(
        &self,
        bounds: &mut Bounds,
        filter: &TaskFilter,
        page_size: usize,
        after: Option<Cursor>,
    ) -> Result<TaskPage, EngineError> {
        let mut page = TaskPage::default();
        if after.is_none()
            && let Some(named) = self.task_named_by(filter).await?
        {
            return Ok(TaskPage { tasks: vec![named], examined: 1, next: Some(Cursor::NEWEST) });
        }
        let mut before = after.map(|cursor| cursor.before);
        let oldest = ended::oldest(filter);
        loop {
            let room = page_size - page.tasks.len();
            let wanted = if filter.depends_on_definition() { PART } else { room.min(PART) };
            let mut part = self.part(filter, before, wanted, bounds).await?;
            // Their definitions need not be read.
            part.states.retain(|state| filter.can_be_of_schedule(state.client_id()));
            let states = std::mem::take(&mut part.states);
            let ids: Vec<TaskId> = states.iter().map(State::id).collect();
            let compared =
                self.add_matching(filter, states, page_size, &mut page.tasks, bounds).await?;
            // Where it stopped within the part.
            let last = compared.checked_sub(1).filter(|at| at + 1 < ids.len());
            let down_to = last.map_or(part.down_to, |at| Some(ids[at]));
            page.examined += part.examined(down_to);
            before = down_to.filter(|down_to| oldest < Some(*down_to));
            page.next = before.map(|before| Cursor { before });
            if page.tasks.len() >= page_size || bounds.is_over() || before.is_none() {
                return Ok(page);
            }
        }
    }
}
