"""Writes transactions into a database and prints the number of each once it is committed, or checks what is there."""
import sqlite3
import sys

path, journal, verb, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
database = sqlite3.connect(path, isolation_level=None, timeout=60)
mode = database.execute(f"PRAGMA journal_mode={journal}").fetchone()[0]
assert mode == journal, f"the journal is {mode}"
database.execute("PRAGMA synchronous=FULL")

if verb == "write":
    database.execute("CREATE TABLE IF NOT EXISTS visit (number INTEGER PRIMARY KEY, who TEXT, notes BLOB)")
    database.execute("CREATE INDEX IF NOT EXISTS visit_by_who ON visit (who)")
    first = database.execute("SELECT coalesce(max(number), 0) FROM visit").fetchone()[0] + 1
    for number in range(first, first + count):
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO visit VALUES (?, ?, ?)", (number, f"patient {number % 7}", bytes([number % 251]) * 3000))
        database.execute("UPDATE visit SET notes = ? WHERE number = ?", (bytes([number % 251]) * 5000, number // 2))
        if number % 10 == 0:
            # Rolled back: it must leave nothing.
            database.execute("DELETE FROM visit")
            database.execute("ROLLBACK")
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO visit VALUES (?, 'again', x'00')", (number,))
        database.execute("COMMIT")
        print(number, flush=True)
else:
    found = database.execute("PRAGMA integrity_check").fetchall()
    assert found == [("ok",)], found
    numbers = [row[0] for row in database.execute("SELECT number FROM visit ORDER BY number")]
    # One more may have been committed when the answer was lost.
    assert numbers in (list(range(1, count + 1)), list(range(1, count + 2))), f"{count} committed, there are {numbers}"
    indexed = database.execute("SELECT count(*) FROM visit INDEXED BY visit_by_who WHERE who > ''").fetchone()[0]
    assert indexed == len(numbers), f"the index has {indexed} of {len(numbers)}"
database.close()
