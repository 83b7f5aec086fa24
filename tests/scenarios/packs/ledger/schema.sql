-- The table of the fault scenarios: every row carries its version, so that one event stream shows gaps,
-- duplicates and reordering at once, and transfers keep the total, so that a torn transaction shows too.
CREATE TABLE account (
    id      int8 PRIMARY KEY,
    ver     int8 NOT NULL,
    owner   text NOT NULL,
    balance numeric(12,2) NOT NULL,
    note    text
);
ALTER TABLE account REPLICA IDENTITY FULL;
