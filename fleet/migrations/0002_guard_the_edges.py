"""The edges of `fleet.states`, guarded by the database as well: a move that does not exist can't be written.

Frozen here as they were at this migration; a test compares them with `fleet.states.EDGES`.
"""

from django.db import migrations

GUARD = """
CREATE FUNCTION instances_guard_edge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.status, NEW.status) IN (
        ('PROVISIONING', 'BOOTING'), ('PROVISIONING', 'DRAINING'), ('PROVISIONING', 'FAILED'),
        ('BOOTING', 'READY'), ('BOOTING', 'DRAINING'), ('BOOTING', 'FAILED'),
        ('READY', 'DRAINING'), ('READY', 'FAILED'),
        ('DRAINING', 'TERMINATED'),
        ('FAILED', 'TERMINATED')
    ) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'no edge from % to %', OLD.status, NEW.status
        USING ERRCODE = 'check_violation', CONSTRAINT = 'instances_edge_exists';
END
$$;
CREATE TRIGGER instances_guard_edge BEFORE UPDATE OF status ON instances
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION instances_guard_edge();
"""

UNGUARD = """
DROP TRIGGER instances_guard_edge ON instances;
DROP FUNCTION instances_guard_edge();
"""


class Migration(migrations.Migration):
    dependencies = [("fleet", "0001_initial")]

    operations = [migrations.RunSQL(GUARD, UNGUARD)]
