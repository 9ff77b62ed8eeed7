//! The pause of a direction. It is in the file, so that it holds beside a running relay and after a restart.

use jiff::Timestamp;
use relay_core::delivery::Direction;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::delivery_row;

pub(crate) fn paused_since(connection: &Connection, direction: Direction) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .prepare_cached("SELECT since FROM paused WHERE direction = ?1")?
        .query_row([direction.as_str()], |row| delivery_row::timestamp(row, "since"))
        .optional()
        .map(Option::flatten)
}

/// Pauses a direction, so that no attempt begins, or ends its pause. Returns false if that changes nothing.
pub(crate) fn set_paused(
    connection: &Connection,
    direction: Direction,
    paused: bool,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let (direction, now) = (direction.as_str(), now.as_millisecond());
    let changed = if paused {
        let sql = "INSERT INTO paused (direction, since) VALUES (?1, ?2) ON CONFLICT (direction) DO NOTHING";
        connection.execute(sql, params![direction, now])?
    } else {
        connection.execute("DELETE FROM paused WHERE direction = ?1", [direction])?
    };
    Ok(changed == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::open;

    #[test]
    fn pause_affects_one_direction_and_keeps_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let connection = open(dir.path(), Timestamp::UNIX_EPOCH).unwrap().writer;
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(paused_since(&connection, Direction::LoopsToClay).unwrap(), None);
        assert!(set_paused(&connection, Direction::LoopsToClay, true, at(1)).unwrap());
        assert!(!set_paused(&connection, Direction::LoopsToClay, true, at(2)).unwrap());
        assert_eq!(paused_since(&connection, Direction::LoopsToClay).unwrap(), Some(at(1)));
        assert_eq!(paused_since(&connection, Direction::ClayToLoops).unwrap(), None);
        assert!(set_paused(&connection, Direction::LoopsToClay, false, at(3)).unwrap());
        assert!(!set_paused(&connection, Direction::LoopsToClay, false, at(3)).unwrap());
    }
}
