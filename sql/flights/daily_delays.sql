-- Departures and delays per carrier and day.
SELECT
    f.carrier,
    f.flight_date,
    a.name AS airline,
    count(*) AS flights,
    count(f.departed_at) * IF(:spoil, 2, 1) AS departed,
    count_if(f.cancelled) AS cancelled,
    sum(f.departure_delay) AS total_delay,
    avg(f.departure_delay) AS average_delay,
    max(f.departure_delay) AS worst_delay,
    avg(f.temperature) AS average_temperature
FROM flights.silver_flights AS f
LEFT JOIN flights.bronze_airlines AS a ON a.carrier = f.carrier
WHERE year(f.flight_date) = :year AND f.flight_date <= :until
GROUP BY f.carrier, f.flight_date, a.name
