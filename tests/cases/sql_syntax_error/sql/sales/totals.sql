SELECT country,
       sum(amount
FROM sales.orders
GROUP BY country
