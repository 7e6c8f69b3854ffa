//! The policy's choice, in a form that outlives the channel it was made from.

use jiff::Timestamp;
use policy::{Choice, Passed};
use release::{Channel, Manifest, Version};

/// Why nothing is to be done, where the newest runs.
const UP_TO_DATE: &str = "it is the newest for this machine";

/// What is to be done about a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The release to be installed.
    pub take: Option<Manifest>,
    /// The release that is there for whoever asks, taken or not.
    pub available: Option<Manifest>,
    /// Why, a sentence.
    pub sentence: String,
    /// The newest release of the channel.
    pub newest: Option<Version>,
    /// When it is worth asking again, before the next check.
    pub again: Option<Timestamp>,
}

/// What a check has found, for a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The release that runs.
    pub running: Version,
    /// The channel that was asked.
    pub channel: String,
    /// The release that this machine takes now.
    pub available: Option<Manifest>,
    /// Why there is none, or what has to be known about it.
    pub sentence: String,
    /// The newest release of the channel, taken or not.
    pub newest: Option<Version>,
}

impl Found {
    /// Whether the newest release for this machine runs.
    pub fn is_up_to_date(&self) -> bool {
        self.available.is_none() && self.sentence == UP_TO_DATE
    }
}

impl Decision {
    /// From the policy's choice.
    pub fn of(choice: &Choice<'_>, channel: &Channel) -> Self {
        let newest = channel
            .offers
            .iter()
            .map(|offer| &offer.manifest.version)
            .max()
            .cloned();
        let mut decision = Self {
            take: None,
            available: None,
            sentence: String::new(),
            newest,
            again: None,
        };
        match choice {
            Choice::UpToDate => decision.sentence = UP_TO_DATE.to_owned(),
            Choice::Take {
                offer,
                reason,
                passed,
            } => {
                decision.take = Some(offer.manifest.clone());
                decision.available = Some(offer.manifest.clone());
                decision.sentence = with_passed(reason.to_string(), passed);
            }
            Choice::Available { offer, passed } => {
                decision.available = Some(offer.manifest.clone());
                let sentence = "`wherry update apply` installs it: the mode is manual".to_owned();
                decision.sentence = with_passed(sentence, passed);
            }
            Choice::Wait {
                version,
                until,
                passed,
            } => {
                decision.again = Some(*until);
                let others: Vec<Passed> = passed
                    .iter()
                    .filter(|passed| passed.version != *version)
                    .cloned()
                    .collect();
                let sentence = format!("{version} is for this machine from {until} on");
                decision.sentence = with_passed(sentence, &others);
            }
            Choice::Nothing { cause, passed } => {
                decision.sentence = with_passed(cause.to_string(), passed);
            }
        }
        decision
    }

    /// As the answer to a client. `running` runs, `channel` was asked.
    pub fn found(&self, running: &Version, channel: &str) -> Found {
        Found {
            running: running.clone(),
            channel: channel.to_owned(),
            available: self.available.clone(),
            sentence: self.sentence.clone(),
            newest: self.newest.clone(),
        }
    }
}

fn with_passed(sentence: String, passed: &[Passed]) -> String {
    passed
        .iter()
        .fold(sentence, |sentence, passed| format!("{sentence}; {passed}"))
}
