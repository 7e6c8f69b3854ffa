//! What the worker is told to do.

use policy::Standing;

use crate::action::{Action, Asking, Order};
use crate::event::ClientId;
use crate::lifecycle::Lifecycle;
use crate::work::Task;

impl Lifecycle {
    /// Gives the worker what is next, unless it is busy.
    pub(crate) fn begin_next(&mut self) {
        if let Some(task) = self.work.take_next() {
            self.begin(task, None);
        }
    }

    /// Gives the worker a task. It is not busy.
    pub(crate) fn begin(&mut self, task: Task, client: Option<ClientId>) {
        let order = self.order_for(&task);
        self.work.begin(task, client);
        self.order(order);
    }

    fn order_for(&self, task: &Task) -> Order {
        match task {
            Task::Look => Order::Look,
            Task::Check => Order::Check(self.asking(self.record.standing.clone())),
            Task::Update { restart } => Order::Update {
                asking: self.asking(self.record.standing.clone()),
                extent: restart.extent(),
            },
            // A release installed before may be fetched again, whatever its wave.
            Task::Repair(root_hash) => Order::Repair {
                asking: self.asking(Standing {
                    wish: None,
                    ..self.record.standing.clone()
                }),
                root_hash: *root_hash,
            },
            Task::Publish(manifest) => Order::Publish(manifest.clone()),
            Task::Withdraw => Order::Withdraw,
            Task::Bless => Order::Bless,
            Task::RollBack { .. } => Order::RollBack,
            Task::Credit(tries) => Order::Credit(*tries),
            Task::Examine(root_hash) => Order::Examine(*root_hash),
        }
    }

    fn asking(&self, standing: Standing) -> Box<Asking> {
        Box::new(Asking {
            config: self.config.clone(),
            standing,
        })
    }

    /// The client whose task is under way hears that somebody is there.
    pub(crate) fn tell_client(&mut self) {
        if let Some(client) = self.work.client() {
            let progress = self.progress();
            self.act(Action::Progress(client, progress));
        }
    }
}
