//! Reads the stream of batches in Redis, and notices when the store no longer has what was read.

use std::{io, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{Book, Seat, records};
use crate::{
    history::{HeadWrite, Revision},
    process::LOOK,
    store::redis::{Connection, Value, master},
};

const LOG: &str = "{rota}:log";
const SEATS: &str = "{rota}:seats";
/// How long the server waits for something new, and how long for its answer is waited.
const BLOCKS_MS: &str = "100";
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Entries in one answer.
const ENTRIES: &str = "200";

/// Where the master is to be found.
pub(super) struct Place {
    pub(super) servers: Vec<String>,
    /// None: the only server is the master.
    pub(super) sentinels: Vec<String>,
}

impl Place {
    async fn master(&self) -> Option<String> {
        if self.sentinels.is_empty() {
            return self.servers.first().cloned();
        }
        master(&self.sentinels).await.map(|(master, _)| master)
    }
}

pub(super) async fn record(place: Place, book: Arc<Book>) {
    let (mut look, mut following) = (tokio::time::interval(LOOK), None);
    let mut seats_from = "0-0".to_owned();
    loop {
        let step = async {
            let (server, mut connection) = match following.take() {
                Some(following) => following,
                None => connected(&place, &book).await?,
            };
            read(&mut connection, &book).await?;
            read_seats(&mut connection, &book, &mut seats_from).await?;
            // A former master that lives on is left.
            if place.sentinels.is_empty() || place.master().await.as_ref() == Some(&server) {
                following = Some((server, connection));
            }
            Ok::<_, io::Error>(())
        };
        let done = timeout(ANSWERS_WITHIN * 2, step).await;
        if !matches!(done, Ok(Ok(()))) {
            look.tick().await;
        }
    }
}

/// The answer to a command; an error of the server, which may be loading its data, is one.
async fn ask(connection: &mut Connection, command: &[&str]) -> io::Result<Value> {
    match connection.ask(command).await? {
        Value::Error(error) => Err(io::Error::other(error)),
        answer => Ok(answer),
    }
}

async fn connected(place: &Place, book: &Book) -> io::Result<(String, Connection)> {
    let server = place.master().await.ok_or(io::ErrorKind::NotFound)?;
    let mut connection = Connection::to(&server).await?;
    let role = ask(&mut connection, &["ROLE"]).await?;
    if role.list().first().and_then(Value::text) != Some("master") {
        return Err(io::ErrorKind::NotFound.into());
    }
    compare(&mut connection, book).await?;
    Ok((server, connection))
}

/// Looks how much of what was read the server has. It may have gone another way long ago, and be further by now, so
/// the last batch that both have is looked for.
async fn compare(connection: &mut Connection, book: &Book) -> io::Result<()> {
    let Some(last) = book.last() else { return Ok(()) };
    let mut up_to = format!("{}-0", last.head.expect("every entry has one").seq);
    let mut before = 0;
    loop {
        let answer = ask(connection, &["XREVRANGE", LOG, &up_to, "-", "COUNT", ENTRIES]).await?;
        for entry in answer.list() {
            let entry = revision(entry)?;
            if book.has(&entry) {
                book.lose_after(entry.number);
                return Ok(());
            }
            before = entry.number - 1;
            up_to = format!("({}-0", entry.head.expect("every entry has one").seq);
        }
        if answer.list().is_empty() {
            // Older entries are no longer in the log.
            book.lose_after(before);
            return Ok(());
        }
    }
}

/// All batches in the log of a server of Redis.
///
/// # Errors
/// When it does not answer.
pub async fn log_of(server: &str) -> io::Result<Vec<Revision>> {
    let log = ask(&mut Connection::to(server).await?, &["XRANGE", LOG, "-", "+"]).await?;
    log.list().iter().map(revision).collect()
}

/// Reads on. A server that has become a replica on the way takes over what its master has, under the same connection, and
/// numbers alone do not show that: so what does not follow the last batch has the recorder compare again.
async fn read(connection: &mut Connection, book: &Book) -> io::Result<()> {
    let mut revisions = read_after(connection, book.last()).await?;
    if revisions.first().is_some_and(|first| !follows(book.last().as_ref(), first)) {
        compare(connection, book).await?;
        // If the server has the last batch, it is for the judge to say what is wrong with the next one.
        revisions = read_after(connection, book.last()).await?;
    }
    if let Some(head) = revisions.last().and_then(|last| last.head) {
        book.add(revisions, i64::try_from(head.seq).expect("numbers are small"));
    }
    Ok(())
}

async fn read_after(
    connection: &mut Connection,
    last: Option<Revision>,
) -> io::Result<Vec<Revision>> {
    let from = format!("{}-0", last.and_then(|last| last.head).map_or(0, |head| head.seq));
    let command = ["XREAD", "COUNT", ENTRIES, "BLOCK", BLOCKS_MS, "STREAMS", LOG, &from];
    let answer = ask(connection, &command).await?;
    let [stream] = answer.list() else { return Ok(Vec::new()) };
    stream.list().get(1).map(Value::list).unwrap_or_default().iter().map(revision).collect()
}

/// Whether a batch is the one after the last.
fn follows(last: Option<&Revision>, next: &Revision) -> bool {
    let (number, seq) =
        last.map_or((0, 0), |last| (last.number, last.head.map_or(0, |head| head.seq)));
    next.number == number + 1 && next.head.is_some_and(|head| head.prev == seq)
}

/// Reads who took the seat.
async fn read_seats(connection: &mut Connection, book: &Book, from: &mut String) -> io::Result<()> {
    let answer = ask(connection, &["XREAD", "STREAMS", SEATS, from]).await?;
    let [stream] = answer.list() else { return Ok(()) };
    for entry in stream.list().get(1).map(Value::list).unwrap_or_default() {
        let [id, fields] = entry.list() else { return Err(invalid()) };
        let id = id.text().ok_or_else(invalid)?;
        let at = id.split('-').next().and_then(|at| at.parse().ok()).ok_or_else(invalid)?;
        let epoch = number(fields.list(), "epoch")?;
        id.clone_into(from);
        if epoch > 0 {
            book.saw_seat(Seat { at, epoch });
        }
    }
    Ok(())
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn field<'a>(fields: &'a [Value], name: &str) -> io::Result<&'a Value> {
    let at = fields.iter().step_by(2).position(|field| field.text() == Some(name));
    at.and_then(|at| fields.get(2 * at + 1)).ok_or_else(invalid)
}

fn number(fields: &[Value], name: &str) -> io::Result<i64> {
    let text = field(fields, name)?.text().ok_or_else(invalid)?;
    text.parse().map_err(|_| invalid())
}

/// Takes an entry of the stream apart.
fn revision(entry: &Value) -> io::Result<Revision> {
    let [id, fields] = entry.list() else { return Err(invalid()) };
    let fields = fields.list();
    let seq = id.text().and_then(|id| id.split('-').next()?.parse().ok()).ok_or_else(invalid)?;
    let prev = number(fields, "prev")?.unsigned_abs();
    let head = HeadWrite { epoch: number(fields, "epoch")?, seq, prev, sealed: false };
    let mut revision = Revision {
        number: number(fields, "count")?,
        at: number(fields, "at")?,
        head: Some(head),
        ..Revision::default()
    };
    let Value::Bytes(data) = field(fields, "data")? else { return Err(invalid()) };
    let mut rest = data.as_slice();
    for line in field(fields, "index")?.text().ok_or_else(invalid)?.lines() {
        let mut words = line.split(' ').skip(1);
        let space = words.next().ok_or_else(invalid)?;
        let mut next = || {
            let length = words.next()?.parse().ok()?;
            let part;
            (part, rest) = rest.split_at_checked(length)?;
            Some(part)
        };
        let key = next().ok_or_else(invalid)?;
        let value = if line.starts_with('+') { Some(next().ok_or_else(invalid)?) } else { None };
        records::note(&mut revision, space, &String::from_utf8_lossy(key), value);
    }
    Ok(revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{history::TaskWrite, losses::Served};

    /// Writes batches of that epoch: their numbers after that of the last batch, and how many there are before them.
    async fn write(connection: &mut Connection, before: usize, epoch: &str, numbers: &[&str]) {
        for (count, pair) in (before + 1..).zip(numbers.windows(2)) {
            let (id, count) = (format!("{}-0", pair[1]), count.to_string());
            let entry = ["XADD", LOG, &id, "prev", pair[0], "epoch", epoch, "count", &count];
            let entry = [&entry[..], &["at", "1", "index", "", "data", ""]].concat();
            ask(connection, &entry).await.expect("written");
        }
    }

    fn seqs(revisions: &[Revision]) -> Vec<u64> {
        revisions.iter().filter_map(|revision| revision.head).map(|head| head.seq).collect()
    }

    #[tokio::test]
    async fn a_server_that_takes_over_another_branch_under_the_same_connection_is_noticed() {
        let home = tempfile::tempdir().expect("a directory");
        let server = Served::start(home.path()).await;
        let mut connection = Connection::to(&server.address).await.expect("it serves");
        let book = Book::default();
        write(&mut connection, 0, "1", &["0", "1", "2", "3", "4"]).await;
        read(&mut connection, &book).await.expect("it is read");
        assert_eq!(seqs(&book.pages().revisions), [1, 2, 3, 4]);
        // As a replica does that copies all that its master has: the other branch has gone on further.
        ask(&mut connection, &["DEL", LOG]).await.expect("it is gone");
        write(&mut connection, 0, "1", &["0", "1", "2"]).await;
        write(&mut connection, 2, "9", &["2", "900", "901", "902"]).await;
        read(&mut connection, &book).await.expect("it is read");
        assert_eq!(seqs(&book.pages().revisions), [1, 2, 900, 901, 902]);
        assert_eq!(seqs(&book.pages().dropped.concat()), [3, 4]);
        // A number that is left out within one branch is for the judge.
        write(&mut connection, 7, "9", &["905", "906"]).await;
        read(&mut connection, &book).await.expect("it is read");
        assert_eq!(seqs(&book.pages().revisions), [1, 2, 900, 901, 902, 906]);
    }

    #[test]
    fn an_entry_becomes_a_revision() {
        let bytes = |text: &str| Value::Bytes(text.into());
        let fields = [
            ("prev", "4"),
            ("epoch", "2"),
            ("count", "3"),
            ("at", "99"),
            ("index", "- live 1\n+ spec 1 2"),
            ("data", "ttxy"),
        ];
        let fields = fields.iter().flat_map(|(name, value)| [bytes(name), bytes(value)]).collect();
        let entry = Value::List(vec![bytes("7-0"), Value::List(fields)]);
        let head = HeadWrite { epoch: 2, seq: 7, prev: 4, sealed: false };
        let expected = Revision {
            number: 3,
            at: 99,
            head: Some(head),
            data: true,
            tasks: vec![TaskWrite::NoLonger { task: "t".to_owned() }],
            created: vec!["t".to_owned()],
            ..Revision::default()
        };
        assert_eq!(revision(&entry).expect("an entry"), expected);
    }
}
