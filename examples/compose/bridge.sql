-- What a DBA grants, and all that Rowbridge needs: to replicate, to read the captured tables, and a publication of them.
CREATE ROLE rowbridge LOGIN REPLICATION;
GRANT SELECT ON departures, tickets, payments TO rowbridge;
CREATE PUBLICATION rowbridge_tickets FOR TABLE departures, tickets, payments WITH (publish_via_partition_root = true);
