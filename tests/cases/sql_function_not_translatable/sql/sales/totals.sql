SELECT country,
       approx_set(amount) AS amounts
FROM sales.orders
GROUP BY country
