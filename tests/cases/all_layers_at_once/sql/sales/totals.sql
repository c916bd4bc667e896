SELECT order_id,
FROM sales.orders WHERE
