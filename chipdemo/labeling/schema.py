"""The tables of the journal, and the steps that bring an older journal to this version."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from chipdemo.errors import JournalError

# Each script brings a journal from the version of its index to the next. Never change one that was released.
MIGRATIONS = (
    """
    CREATE TABLE photographs (
        id INTEGER PRIMARY KEY,
        sha256 TEXT NOT NULL UNIQUE,  -- images.content_sha256
        name TEXT NOT NULL,           -- as it was first called, for people
        path TEXT NOT NULL,           -- its file where it is not kept in contents; '' where it is
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        added_at INTEGER NOT NULL,    -- microseconds since 1970, UTC, like every time here
        votes INTEGER NOT NULL DEFAULT 0,  -- annotators whose label stands
        panel INTEGER NOT NULL DEFAULT 1 REFERENCES panels (id),  -- who they are
        truth TEXT NOT NULL DEFAULT '',    -- agreement.Truth's label; '' where nobody labelled it
        priority REAL NOT NULL DEFAULT 0,  -- the highest comes first; ranking.py sets it
        reason TEXT NOT NULL DEFAULT ''    -- why it comes when it does, for people
    );
    -- As queue.ORDERS has them: the first of each panel is found without a look at the others
    CREATE INDEX photographs_informative ON photographs (panel, -priority, id);
    CREATE INDEX photographs_plain ON photographs (panel, id);
    CREATE INDEX photographs_random ON photographs (panel, (id * 2654435761) % 4294967291, id);
    CREATE INDEX photographs_by_truth ON photographs (truth, votes, id);
    CREATE TABLE panels (             -- those who labelled a photograph; there are few of them
        id INTEGER PRIMARY KEY,
        annotators TEXT NOT NULL UNIQUE,  -- JSON, sorted
        votes INTEGER NOT NULL        -- how many they are
    );
    INSERT INTO panels VALUES (1, '[]', 0);
    CREATE TABLE contents (
        sha256 TEXT PRIMARY KEY,
        bytes BLOB NOT NULL           -- the file as it came
    );
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        image_sha256 TEXT NOT NULL REFERENCES photographs (sha256),
        label TEXT NOT NULL,
        annotator TEXT NOT NULL,
        defect_type TEXT NOT NULL,
        boxes TEXT NOT NULL,          -- JSON: [[x, y, width, height], ...]
        said TEXT NOT NULL,           -- JSON: [name, revision, abnormal_probability]; '' for nothing
        retracts TEXT NOT NULL,
        decides INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        batch TEXT,                   -- the file that it is to be published in; NULL until chosen
        shard TEXT,                   -- the file of the data set that holds it; NULL until published
        note TEXT NOT NULL,           -- what may be long comes last: the rest is read without it
        mask BLOB NOT NULL
    );
    CREATE INDEX events_by_image ON events (image_sha256, annotator, seq);
    CREATE INDEX events_by_annotator ON events (annotator, seq);
    CREATE INDEX events_by_time ON events (annotator, created_at) WHERE retracts = '';
    CREATE INDEX events_unpublished ON events (seq) WHERE shard IS NULL;
    CREATE INDEX events_by_batch ON events (batch, seq) WHERE shard IS NULL;
    CREATE TABLE votes (
        image_sha256 TEXT NOT NULL,
        annotator TEXT NOT NULL,
        seq INTEGER NOT NULL REFERENCES events (seq),
        label TEXT NOT NULL,
        decides INTEGER NOT NULL,
        said REAL,                    -- abnormal_probability of the model at that time; NULL for none
        PRIMARY KEY (image_sha256, annotator)
    ) WITHOUT ROWID;
    CREATE INDEX votes_by_annotator ON votes (annotator, seq);
    CREATE TABLE skips (              -- who does not want to label what
        image_sha256 TEXT NOT NULL,
        annotator TEXT NOT NULL,
        PRIMARY KEY (image_sha256, annotator)
    ) WITHOUT ROWID;
    CREATE TABLE leases (             -- who is labelling what just now
        image_sha256 TEXT NOT NULL,
        annotator TEXT NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (image_sha256, annotator)
    ) WITHOUT ROWID;
    CREATE TABLE scores (             -- what a model says of it, for the order of the queue
        image_sha256 TEXT PRIMARY KEY,
        revision TEXT NOT NULL,
        abnormal_probability REAL NOT NULL,
        embedding BLOB NOT NULL       -- float32, little-endian, of unit length; x'' for none
    ) WITHOUT ROWID;
    -- Counted as they come, so that no question counts a million rows
    CREATE TABLE tallies (
        what TEXT NOT NULL,           -- 'photographs' by votes, 'events' by being published, 'votes' by whom
        of BLOB NOT NULL,             -- any type
        count INTEGER NOT NULL,
        PRIMARY KEY (what, of)
    ) WITHOUT ROWID;
    CREATE TRIGGER photograph_added AFTER INSERT ON photographs BEGIN
        INSERT INTO tallies VALUES ('photographs', new.votes, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER photograph_labelled AFTER UPDATE OF votes ON photographs WHEN old.votes != new.votes BEGIN
        UPDATE tallies SET count = count - 1 WHERE what = 'photographs' AND of = old.votes;
        INSERT INTO tallies VALUES ('photographs', new.votes, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER event_added AFTER INSERT ON events BEGIN
        INSERT INTO tallies VALUES ('events', new.shard IS NOT NULL, 1)
            ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER event_published AFTER UPDATE OF shard ON events
    WHEN (old.shard IS NULL) != (new.shard IS NULL) BEGIN
        UPDATE tallies SET count = count - 1 WHERE what = 'events' AND of = (old.shard IS NOT NULL);
        INSERT INTO tallies VALUES ('events', new.shard IS NOT NULL, 1)
            ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER vote_added AFTER INSERT ON votes BEGIN
        INSERT INTO tallies VALUES ('votes', new.annotator, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER vote_removed AFTER DELETE ON votes BEGIN
        UPDATE tallies SET count = count - 1 WHERE what = 'votes' AND of = old.annotator;
    END;
    """,
    """
    -- Version 2 has other words: image, consensus, disputed, prediction. Scores are computed anew, because
    -- large images were scored without tiles. A lease and an event belong to a page of the browser.
    DROP TRIGGER photograph_added;
    DROP TRIGGER photograph_labelled;
    ALTER TABLE photographs RENAME TO images;
    ALTER TABLE images RENAME COLUMN truth TO consensus;
    ALTER TABLE events RENAME COLUMN said TO prediction;
    ALTER TABLE votes RENAME COLUMN said TO prediction;
    UPDATE images SET consensus = 'disputed' WHERE consensus = 'disagreement';
    UPDATE images SET priority = 0, reason = '';
    UPDATE tallies SET what = 'images' WHERE what = 'photographs';
    DELETE FROM scores;
    DROP TABLE leases;                -- they last minutes
    CREATE TABLE leases (             -- images that a page of the browser was given to show
        image_sha256 TEXT NOT NULL,
        annotator TEXT NOT NULL,
        page TEXT NOT NULL,           -- an id that the page makes for itself; '' for a client that names none
        until INTEGER NOT NULL,
        PRIMARY KEY (image_sha256, annotator, page)
    ) WITHOUT ROWID;
    ALTER TABLE events ADD COLUMN page TEXT NOT NULL DEFAULT '';  -- that sent it; is not published
    CREATE INDEX events_by_page ON events (annotator, page, seq);
    CREATE TRIGGER image_added AFTER INSERT ON images BEGIN
        INSERT INTO tallies VALUES ('images', new.votes, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER image_labeled AFTER UPDATE OF votes ON images WHEN old.votes != new.votes BEGIN
        UPDATE tallies SET count = count - 1 WHERE what = 'images' AND of = old.votes;
        INSERT INTO tallies VALUES ('images', new.votes, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    """,
    """
    -- Version 3: an app has several models, each with its own threshold. Scores are computed anew.
    DROP TABLE scores;
    CREATE TABLE scores (             -- what the model that knows an image best says of it
        image_sha256 TEXT PRIMARY KEY,
        revision TEXT NOT NULL,       -- of all models together, as Models.revision has it
        prediction TEXT NOT NULL,     -- JSON: [name, revision, abnormal_probability]
        abnormal_probability REAL NOT NULL,
        threshold REAL NOT NULL,      -- of that model
        embedding BLOB NOT NULL       -- float32, little-endian, of unit length; x'' for none
    ) WITHOUT ROWID;
    """,
    """
    -- Version 4: a defect type of each box, the fifth value in boxes; polygons; a defect type of the mask.
    ALTER TABLE events ADD COLUMN polygons TEXT NOT NULL DEFAULT '[]';  -- JSON: [[[[x, y], ...], type], ...]
    ALTER TABLE events ADD COLUMN mask_type TEXT NOT NULL DEFAULT '';
    """,
    """
    -- Version 5: the history of inspections. Their files are in contents too, but in no queue.
    CREATE TABLE inspections (
        owner TEXT NOT NULL,          -- ui.auth.Annotators.owner
        sha256 TEXT NOT NULL,         -- images.content_sha256
        name TEXT NOT NULL,
        inspected_at INTEGER NOT NULL,
        model TEXT NOT NULL,          -- that judged
        revision TEXT NOT NULL,
        asked TEXT NOT NULL,          -- the model that was to judge; '*': the one that knows it best
        threshold REAL,               -- NULL for the model's own
        method TEXT NOT NULL,         -- the explanation that was shown
        in_tiles INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        abnormal_probability REAL NOT NULL,
        size INTEGER NOT NULL,        -- of the file, bytes
        small BLOB NOT NULL,          -- a small picture, JPEG
        UNIQUE (owner, sha256)
    );
    -- What lists, filters and limits ask for, without a look at the pictures
    CREATE INDEX inspections_by_time ON inspections (owner, inspected_at, outcome, model, size);
    CREATE INDEX inspections_by_age ON inspections (inspected_at);
    CREATE INDEX inspections_by_image ON inspections (sha256);
    """,
    """
    -- Version 6: images are browsed, and deleted from the queue. Scores say whether the image is out of
    -- distribution.
    ALTER TABLE scores ADD COLUMN out_of_distribution INTEGER;  -- NULL in older ones, which are made anew
    ALTER TABLE images ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;  -- 1: out of the queue, by deletions
    CREATE TABLE deletions (          -- events, like labels
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        image_sha256 TEXT NOT NULL,
        annotator TEXT NOT NULL,
        deletes INTEGER NOT NULL,     -- 0: brings the image back
        created_at INTEGER NOT NULL
    );
    CREATE TABLE thumbnails (sha256 TEXT PRIMARY KEY, jpeg BLOB NOT NULL);  -- made when first shown
    -- What is searched, in narrow rows and in the order of the images: a page reads all of them
    CREATE TABLE cards (
        id INTEGER PRIMARY KEY,       -- of images, like the columns that are named as there
        name TEXT NOT NULL,
        votes INTEGER NOT NULL,
        consensus TEXT NOT NULL,
        deleted INTEGER NOT NULL,
        abnormal_probability REAL,    -- of scores, like the next two; NULL for none
        flagged INTEGER,              -- whether that reaches the threshold
        out_of_distribution INTEGER
    );
    CREATE INDEX cards_probable ON cards
        (abnormal_probability, id, deleted, votes, consensus, flagged, out_of_distribution, name);
    CREATE TABLE gallery (            -- of votes
        annotator TEXT NOT NULL,
        id INTEGER NOT NULL,          -- of images
        label TEXT NOT NULL,
        defect_type TEXT NOT NULL,    -- of the label, its boxes, polygons and mask
        note TEXT NOT NULL,
        PRIMARY KEY (annotator, id)
    ) WITHOUT ROWID;
    CREATE INDEX gallery_typed ON gallery (defect_type, id) WHERE defect_type != '';
    CREATE INDEX gallery_noted ON gallery (id, note) WHERE note != '';
    CREATE INDEX skips_by_annotator ON skips (annotator, image_sha256);
    CREATE INDEX votes_deciding ON votes (seq) WHERE decides;
    DROP INDEX photographs_informative;
    DROP INDEX photographs_plain;
    DROP INDEX photographs_random;
    CREATE INDEX images_informative ON images (panel, -priority, id) WHERE deleted = 0;
    CREATE INDEX images_plain ON images (panel, id) WHERE deleted = 0;
    CREATE INDEX images_random ON images (panel, (id * 2654435761) % 4294967291, id) WHERE deleted = 0;
    INSERT INTO cards
        SELECT id, name, votes, consensus, 0, abnormal_probability, abnormal_probability >= threshold, NULL
        FROM images LEFT JOIN scores ON image_sha256 = sha256;
    CREATE VIEW listed AS
        SELECT votes.annotator, id, votes.label, (
            SELECT COALESCE(GROUP_CONCAT(type, ', '), '') FROM (
                SELECT events.defect_type AS type UNION SELECT mask_type
                UNION SELECT json_extract(value, '$[4]') FROM json_each(boxes)
                UNION SELECT json_extract(value, '$[1]') FROM json_each(polygons)
            ) WHERE type != ''
        ) AS defect_type, note, seq
        FROM votes JOIN events USING (seq) JOIN images ON sha256 = votes.image_sha256;
    INSERT INTO gallery SELECT annotator, id, label, defect_type, note FROM listed;
    CREATE TRIGGER image_carded AFTER INSERT ON images BEGIN
        INSERT INTO cards (id, name, votes, consensus, deleted)
            VALUES (new.id, new.name, new.votes, new.consensus, new.deleted);
    END;
    CREATE TRIGGER image_changed AFTER UPDATE OF votes, consensus, deleted ON images BEGIN
        UPDATE cards SET votes = new.votes, consensus = new.consensus, deleted = new.deleted
            WHERE id = new.id;
    END;
    CREATE TRIGGER image_removed AFTER DELETE ON images BEGIN
        DELETE FROM cards WHERE id = old.id;
    END;
    CREATE TRIGGER image_scored AFTER INSERT ON scores BEGIN
        UPDATE cards SET abnormal_probability = new.abnormal_probability,
            flagged = new.abnormal_probability >= new.threshold, out_of_distribution = new.out_of_distribution
            WHERE id = (SELECT id FROM images WHERE sha256 = new.image_sha256);
    END;
    CREATE TRIGGER vote_listed AFTER INSERT ON votes BEGIN
        INSERT OR REPLACE INTO gallery SELECT annotator, id, label, defect_type, note FROM listed
            WHERE annotator = new.annotator AND seq = new.seq;
    END;
    CREATE TRIGGER vote_unlisted AFTER DELETE ON votes BEGIN
        DELETE FROM gallery WHERE annotator = old.annotator
            AND id = (SELECT id FROM images WHERE sha256 = old.image_sha256);
    END;
    DROP TRIGGER image_labeled;       -- deleted images are not counted
    CREATE TRIGGER image_labeled AFTER UPDATE OF votes ON images
    WHEN old.votes != new.votes AND NOT new.deleted BEGIN
        UPDATE tallies SET count = count - 1 WHERE what = 'images' AND of = old.votes;
        INSERT INTO tallies VALUES ('images', new.votes, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER image_deleted AFTER UPDATE OF deleted ON images WHEN old.deleted != new.deleted BEGIN
        INSERT INTO tallies VALUES ('images', new.votes, 1 - 2 * new.deleted)
            ON CONFLICT DO UPDATE SET count = count + excluded.count;
    END;
    """,
)


def migrate(database: sqlite3.Connection, path: Path) -> None:
    """Create the tables, or bring those of an older version to this one, within the open transaction.

    Raises JournalError for a journal of a newer version.
    """
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise JournalError(
            f"{path} was written by a newer Chip Inspector (journal version {version}; this one reads up to "
            f"{len(MIGRATIONS)}). Update Chip Inspector."
        )
    for script in MIGRATIONS[version:]:
        for statement in _statements(script):
            database.execute(statement)
    database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: executescript would commit the open transaction."""
    statement = ""
    for piece in re.sub("--.*", "", script).split(";")[:-1]:
        statement += piece + ";"
        if sqlite3.complete_statement(statement):  # the body of a trigger has semicolons of its own
            yield statement
            statement = ""
