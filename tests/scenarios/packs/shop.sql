-- Somebody's shop, as it is found: foreign keys, a history that a trigger writes, amounts, an enum, and no thought of Kafka.
CREATE TYPE order_state AS ENUM ('new', 'paid', 'shipped', 'cancelled');

CREATE TABLE customers (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email      text NOT NULL UNIQUE,
    full_name  text NOT NULL,
    is_active  boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE products (
    sku   varchar(20) PRIMARY KEY,
    title text NOT NULL,
    price numeric(10,2) NOT NULL CHECK (price >= 0),
    stock int NOT NULL
);

CREATE TABLE orders (
    id          bigserial PRIMARY KEY,
    customer_id int NOT NULL REFERENCES customers,
    state       order_state NOT NULL DEFAULT 'new',
    total       numeric(12,2),
    note        text,
    placed_at   timestamp NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE order_lines (
    order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE,
    line_no  smallint NOT NULL,
    sku      varchar(20) NOT NULL REFERENCES products,
    quantity int NOT NULL,
    price    numeric(10,2) NOT NULL,
    PRIMARY KEY (order_id, line_no)
);

CREATE TABLE order_history (
    order_id   bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    from_state order_state,
    to_state   order_state NOT NULL
);

CREATE FUNCTION remember_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO order_history (order_id, from_state, to_state) VALUES (NEW.id, OLD.state, NEW.state);
    RETURN NEW;
END $$;
CREATE TRIGGER remember AFTER UPDATE OF state ON orders FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION remember_state();

INSERT INTO customers (email, full_name, is_active)
SELECT 'customer' || n || '@example.com', 'Customer ' || n, n % 7 > 0 FROM generate_series(1, 200) n;
INSERT INTO products SELECT 'SKU-' || n, 'Product ' || n, n * 1.25, 100 FROM generate_series(1, 50) n;
INSERT INTO orders (customer_id, state, total, note)
SELECT n % 200 + 1, (ARRAY['new', 'paid', 'shipped', 'cancelled']::order_state[])[n % 4 + 1], n * 1.10,
       CASE WHEN n % 5 = 0 THEN 'leave at the door' END
FROM generate_series(1, 1000) n;
INSERT INTO order_lines SELECT n, 1, 'SKU-' || (n % 50 + 1), n % 3 + 1, 9.99 FROM generate_series(1, 1000) n;
UPDATE orders SET state = 'paid' WHERE state = 'new' AND id % 3 = 0;
ANALYZE;
