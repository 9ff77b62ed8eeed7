//! The pause of a direction. It is in the file, so that it holds beside a running relay and after a restart.

use jiff::Timestamp;
use relay_core::delivery::Direction;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::delivery_row;

/// Returns since when a direction is paused, if it is.
pub(crate) fn paused_since(connection: &Connection, direction: Direction) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .prepare_cached("SELECT since FROM paused WHERE direction = ?1")?
        .query_row([direction.as_str()], |row| delivery_row::timestamp(row, "since"))
        .optional()
        .map(Option::flatten)
}

/// Pauses a direction: no attempt begins, and new deliveries wait. Returns false if it was paused already.
pub(crate) fn pause(connection: &Connection, direction: Direction, now: Timestamp) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO paused (direction, since) VALUES (?1, ?2) ON CONFLICT (direction) DO NOTHING";
    Ok(connection.execute(sql, params![direction.as_str(), now.as_millisecond()])? == 1)
}

/// Ends the pause of a direction. Returns false if it was not paused.
pub(crate) fn resume(connection: &Connection, direction: Direction) -> rusqlite::Result<bool> {
    Ok(connection.execute("DELETE FROM paused WHERE direction = ?1", [direction.as_str()])? == 1)
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
        assert!(pause(&connection, Direction::LoopsToClay, at(1)).unwrap());
        assert!(!pause(&connection, Direction::LoopsToClay, at(2)).unwrap());
        assert_eq!(paused_since(&connection, Direction::LoopsToClay).unwrap(), Some(at(1)));
        assert_eq!(paused_since(&connection, Direction::ClayToLoops).unwrap(), None);
        assert!(resume(&connection, Direction::LoopsToClay).unwrap());
        assert!(!resume(&connection, Direction::LoopsToClay).unwrap());
    }
}
