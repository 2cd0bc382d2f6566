//! The scripts by which nodes join, take the leader's seat and give it up.

use std::time::Duration;

use redis::Value;

use super::{
    Shared, answer,
    connection::Connected,
    fault::{Fault, unexpected},
    layout::{self, FORMAT},
    link::Effect,
    position::Position,
    script::Script,
    server::{Held, Server},
};
use crate::model::{BatchSeq, Epoch, Member};

/// For so long others let a named successor go first.
const DEFERENCE: Duration = Duration::from_secs(2);

/// What came of trying to take the seat.
pub(super) enum Try {
    /// It is ours.
    Taken(Held),
    /// Another has it, or is to go first, for so long.
    Wait(Duration),
}

/// What came of entering a node among the members.
pub(super) enum Stay {
    /// It is there. Says whether its leadership is.
    Entered { leads: bool },
    /// Another holds the name.
    Taken {
        leads: bool,
        member: Member,
        holder: String,
        /// Until when, in milliseconds by the server's clock.
        ends: u64,
    },
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A former process of this node.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Former<'a> {
    /// The holder under which it entered.
    pub(super) holder: &'a str,
    /// Whether its leadership ends, if it has one.
    pub(super) is_deposed: bool,
}

/// Enters this node among the members for as long as its time to live, or renews that and the leadership of `epoch`.
/// Replaces an entry of `former`.
pub(super) async fn stay(
    shared: &Shared,
    me: &Member,
    holder: &str,
    former: Former<'_>,
    epoch: Epoch,
) -> Result<Stay, Fault> {
    let options = &shared.server.options;
    let node = layout::encode_member(me);
    let answer = shared.control.call_within(options.control_patience(), Script::Stay, |call| {
        call.arg(&me.name).arg(holder).arg(&node).arg(millis(options.leader_ttl));
        call.arg(former.holder).arg(u8::from(former.is_deposed)).arg(FORMAT).arg(epoch.0);
    });
    let mut parts = answer::list(answer.await?)?.into_iter();
    let mut next = || parts.next().unwrap_or_default();
    let (said, second) = (answer::text(next())?, next());
    if said == "format" {
        let found = answer::text(second)?;
        shared.server.check_format(&found)?;
        return Err(Fault::Format(found));
    }
    let leads = answer::number(second)? == 1;
    match said.as_str() {
        "entered" => Ok(Stay::Entered { leads }),
        "taken" => Ok(Stay::Taken {
            leads,
            ends: answer::number(next())?,
            holder: answer::text(next())?,
            member: layout::decode_member(&answer::text(next())?),
        }),
        other => Err(unexpected(other)),
    }
}

/// Upper bound of the batches of one step, which a leader can write before it hears of the first.
const UNDER_WAY_MAX: u64 = 1 << 16;

/// Tries to take the seat.
pub(super) async fn take(shared: &Shared, me: &Member, holder: &str) -> Result<Try, Fault> {
    let Server { options, layout, lineage, .. } = shared.server.as_ref();
    let node = layout::encode_member(me);
    let known = shared.server.epoch();
    let command = |connected: &Connected| {
        let mut call = connected.call(Script::Take, &layout.root);
        call.arg(&me.name).arg(holder).arg(&node).arg(millis(options.leader_ttl));
        call.arg(known.0.max(Server::floor(connected.term)));
        call
    };
    let patience = options.control_patience();
    let (answer, connected) = shared.control.request(patience, Effect::Harmless, command).await?;
    let mut parts = answer::list(answer)?.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    match answer::text(next())?.as_str() {
        "taken" => {
            // A former master that stood still gives out the seat as well, until it hears of the failover. It has no
            // replicas. Who led there would refuse what it does not know, and what it acknowledged would be lost.
            let checks = async {
                connected.replicated(options, patience).await?;
                shared.server.check_term(&connected).await
            };
            if let Err(fault) = checks.await {
                let why = format!("the seat was not taken: {}", fault.reason());
                let fault = Fault::Refused(why);
                shared.control.failed(&connected, &fault).await;
                return Err(fault);
            }
            let epoch = Epoch(answer::number(next())?);
            let found = Position::read(next())?;
            let written_in = answer::number(next())?;
            shared.server.judge_failover(connected.term, written_in, &found);
            lineage.saw(connected.term, &found.stretch());
            let mut least = Server::floor(connected.term);
            // Batches that were lost keep their numbers for themselves, and so do those that were under way, of which
            // no node knows.
            if lineage.highest() > found.head.seq {
                least = least.max(lineage.highest().0 + 1 + UNDER_WAY_MAX);
            }
            let least = if least > found.head.seq.0 + 1 { BatchSeq(least) } else { BatchSeq(0) };
            Ok(Try::Taken(Held { epoch, holder: holder.to_owned(), term: connected.term, least }))
        }
        "occupied" | "promised" => Ok(Try::Wait(answer::time_left(next())?)),
        other => Err(unexpected(other)),
    }
}

/// Gives up the seat and the entry among the members, if they are this holder's. A successor is named only if it is there
/// to hear of it.
pub(super) async fn leave(
    shared: &Shared,
    me: &Member,
    holder: &str,
    successor: Option<&str>,
) -> Result<(), Fault> {
    let patience = shared.server.options.control_patience();
    let answer = shared.control.call_within(patience, Script::Leave, |call| {
        call.arg(&me.name).arg(holder).arg(successor.unwrap_or_default()).arg(millis(DEFERENCE));
    });
    answer.await.map(drop)
}
