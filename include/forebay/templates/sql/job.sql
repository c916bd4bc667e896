-- Trino's SQL. :day is the job's parameter; it comes as a date, never as text.
SELECT
    order_id,
    country,
    amount,
    :day AS day
FROM (
    VALUES
        (1, 'NO', 12.50),
        (2, 'NO', 7.25),
        (3, 'PT', 99.00)
) AS orders (order_id, country, amount)
