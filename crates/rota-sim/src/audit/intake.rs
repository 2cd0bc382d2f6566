//! Takes in what a batch writes, by the auditor's own reading of the records.

use rota_store::Mutation;

use super::{Auditor, Rule, Task, records, stamp_of, tag_of};

impl Auditor {
    pub(super) fn take_in(&mut self, now_us: u64, mutation: &Mutation) {
        let (space, key) = (mutation.space().name, mutation.key());
        let value = match mutation {
            Mutation::Put { value, .. } => Some(value),
            Mutation::Delete { .. } => None,
        };
        match space {
            "spec" => self.take_spec(now_us, key, value),
            "live" => {
                let live = value.map(read::<records::Live>);
                let id = live.as_ref().map(|live| live.id).or_else(|| self.keys.get(key).copied());
                self.change(now_us, id, |task| task.live = live);
            }
            "done" | "dead" => {
                let done = value.map(read::<records::Done>);
                let id = done.as_ref().map(|done| done.id).or_else(|| self.keys.get(key).copied());
                self.change(now_us, id, |task| task.put_done(space == "done", done));
            }
            "result" => {
                let id = self.keys.get(key).copied();
                let value = value.cloned();
                self.change(now_us, id, |task| task.result = value);
            }
            "attempt" => {
                // The key is the task's, and the number of the attempt.
                let of = key.iter().position(|byte| *byte == b'/');
                let id = of.and_then(|at| self.keys.get(&key[..at]).copied());
                let attempt = value.map(read::<records::Attempt>);
                if let Some(task) = id.and_then(|id| self.tasks.get_mut(&id)) {
                    task.attempted = attempt.or(task.attempted);
                }
            }
            "queue" => {
                let paused = value.is_some_and(|value| read::<records::Queue>(value).paused);
                let queue = String::from_utf8_lossy(key);
                if self.queues.set_paused(now_us, &queue, paused) {
                    self.queue_changed(now_us, &queue, paused);
                }
            }
            "name" => self.take_name(key, value.map(read::<records::KeyOwner>)),
            "schedule" => {
                let name = String::from_utf8_lossy(key);
                self.take_schedule(now_us, &name, value.map(read::<records::Schedule>));
            }
            "cursor" => {
                let name = String::from_utf8_lossy(key);
                self.take_cursor(now_us, &name, value.map(read::<records::Cursor>));
            }
            "tick" => self.take_tick(now_us, key, value.map(read::<records::TickRecord>)),
            _ => {}
        }
    }

    fn take_spec(&mut self, now_us: u64, key: &bytes::Bytes, value: Option<&bytes::Bytes>) {
        let Some(value) = value else {
            let id = self.keys.get(key).copied();
            self.change(now_us, id, |task| task.has_spec = false);
            return;
        };
        let spec: records::Spec = read(value);
        self.keys.insert(key.clone(), spec.id);
        let stamp = stamp_of(&spec.description);
        let tag = tag_of(&spec.payload);
        let intent = match tag {
            Some(tag) => self.intents.remove(&tag),
            None if stamp == 0 => self.take_task_of(now_us, &spec),
            None => None,
        };
        let wrong = intent.as_ref().and_then(|intent| intent.check_definition(&spec));
        let task = self.tasks.entry(spec.id).or_default();
        task.has_spec = true;
        task.of_schedule = spec.tick.is_some();
        self.touched.push(spec.id);
        if stamp > 0 {
            return self.take_edited(now_us, &spec, stamp);
        }
        task.intent = intent.map(Box::new);
        if let Some(wrong) = wrong {
            self.broken(Rule::Asked, now_us, format!("task {:x}: {wrong}", spec.id));
        }
        let Some(tag) = tag else { return };
        if self.never.contains(&tag) {
            let what =
                format!("submission {tag:x} landed after it was said that it changed nothing");
            self.broken(Rule::Unchanged, now_us, what);
        }
        if let Some(other) = self.by_tag.insert(tag, spec.id)
            && other != spec.id
            && self.tasks.get(&other).is_some_and(Task::exists)
        {
            let what = format!("submission {tag:x} made two tasks, {other:x} and {:x}", spec.id);
            self.broken(Rule::Names, now_us, what);
        }
    }

    /// A name stands for a task, or for none.
    fn take_name(&mut self, key: &bytes::Bytes, owner: Option<records::KeyOwner>) {
        let task = owner.map(|owner| owner.task);
        let former = match task {
            Some(task) => self.bound.insert(key.clone(), task),
            None => self.bound.remove(key),
        };
        if former == task {
            return;
        }
        if let Some(task) = former.and_then(|id| self.tasks.get_mut(&id)) {
            task.names -= 1;
        }
        if let (Some(former), Some(_)) = (former, task) {
            self.renamed.push((key.clone(), former));
        }
        if let Some(task) = task {
            self.tasks.entry(task).or_default().names += 1;
        }
    }

    fn change(&mut self, now_us: u64, id: Option<u64>, change: impl FnOnce(&mut Task)) {
        match id.and_then(|id| self.tasks.get_mut(&id).map(|task| (id, task))) {
            Some((id, task)) => {
                change(task);
                self.touched.push(id);
            }
            None => self.broken(Rule::Lost, now_us, "a record of an unknown task".to_owned()),
        }
    }
}

/// Reads a record. One that is not of the layout has all its fields at nothing, which breaks rules.
fn read<M: prost::Message + Default>(bytes: &bytes::Bytes) -> M {
    M::decode(bytes.clone()).unwrap_or_default()
}
